"""Shows that the lock is the lock of requirements.in, with a hash for each file and no index."""

import re
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s\\]+)", re.MULTILINE)


def read_pins(file: str) -> dict[str, str]:
    """Map distribution names, as package indexes normalise them, to versions."""
    pins = PIN.findall(Path(file).read_text())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_every_requirement_is_locked_at_its_version() -> None:
    wanted = read_pins("requirements.in")
    assert wanted
    assert wanted.items() <= read_pins("requirements_lock.txt").items()


def test_every_requirement_names_one_version() -> None:
    lines = Path("requirements.in").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in requirements if not PIN.match(line)] == []


def test_every_locked_distribution_has_a_hash() -> None:
    blocks = re.split(r"^(?=\S+==)", Path("requirements_lock.txt").read_text(), flags=re.MULTILINE)
    assert [block for block in blocks[1:] if "--hash=sha256:" not in block] == []


def test_the_lock_names_no_index() -> None:
    assert not re.search(
        r"://|--(extra-)?index-url|--find-links", Path("requirements_lock.txt").read_text()
    )
