"""The secrets of a stack: what is missing is made, and the rest remains."""

from pathlib import Path

import pytest

from deploy.stack.secrets_main import CERTIFIED, PASSWORDS, make


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def read(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_password_is_another_and_every_program_gets_a_certificate(root: Path) -> None:
    assert make(root) == [*PASSWORDS, *CERTIFIED]
    assert len({(root / name).read_text() for name in PASSWORDS}) == len(PASSWORDS)


def test_what_exists_remains(root: Path) -> None:
    make(root)
    (root / PASSWORDS[0]).unlink()
    before = read(root)
    assert make(root) == [PASSWORDS[0]]
    assert read(root).items() > before.items()


def test_containers_may_read_the_files_and_only_the_owner_enters_the_directory(root: Path) -> None:
    make(root)
    assert root.stat().st_mode & 0o777 == 0o700
    mounted = [path for name in CERTIFIED for path in (root / "tls" / name).iterdir()]
    mounted += map(root.joinpath, PASSWORDS)
    assert {path.stat().st_mode & 0o777 for path in mounted} == {0o444}
