"""A run over a small checkout, whose bazelw runs the file of a target by pytest."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants import main
from tools.mutants.catalogue import Mutant
from tools.mutants.scratch import ScratchError

# Takes `test --build_event_json_file=FILE ... TARGET`, and reports the result as Bazel does.
BAZELW = f"""#!{sys.executable}
import json, pathlib, sys
import pytest
sys.path = {sys.path}
# Two bugs in one second, of one length, would share their bytecode.
sys.dont_write_bytecode = True
if sys.argv[1] == "test":
    events = next(a.partition("=")[2] for a in sys.argv if a.startswith("--build_event_json"))
    target = sys.argv[-1]
    report = pathlib.Path("report.xml").absolute()
    options = ["-x", "-p", "no:cacheprovider", f"--junit-xml={{report}}"]
    status = pytest.main([*options, target.partition(":")[2] + ".py"])
    timed_out = pathlib.Path("shop.py").read_text() == "HANG"
    result = {{
        "status": "TIMEOUT" if timed_out else "FAILED" if status else "PASSED",
        "testActionOutput": [{{"name": "test.xml", "uri": report.as_uri()}}],
    }}
    event = {{"id": {{"testResult": {{"label": target}}}}, "testResult": result}}
    pathlib.Path(events).write_text(json.dumps(event))
    sys.exit(3 if status else 0)
"""
TESTS = """
import shop

def test_the_shop_is_open():
    assert shop.OPEN
"""


def bug(behaviour: str, find: str, replacement: str) -> Mutant:
    return Mutant("shop", behaviour, "shop.py", find, replacement, ("//:shop_test",))


NOTICED = bug("the shop is open", "OPEN = True", "OPEN = False")
SURVIVOR = bug("the shop is large", "LARGE = True", "LARGE = False")
BROKEN = bug("the shop is there", "OPEN", "(")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "checkout"
    directory.mkdir()
    (directory / "bazelw").write_text(BAZELW)
    (directory / "bazelw").chmod(0o755)
    (directory / "shop.py").write_text("OPEN = True\nLARGE = True\n")
    (directory / "shop_test.py").write_text(TESTS)
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=directory)
    return directory


def test_a_bug_that_a_test_case_notices_is_named_with_the_test(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.seed_bugs(checkout, [NOTICED]) == 0
    output = capsys.readouterr().out
    assert "noticed    shop: shop.py: the shop is open" in output
    assert "by shop_test::test_the_shop_is_open" in output
    assert output.endswith("noticed 1 of 1 (100.0 %)\n")


def test_a_bug_that_no_test_notices_is_a_survivor(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.seed_bugs(checkout, [SURVIVOR, NOTICED]) == 1
    assert capsys.readouterr().out.endswith(
        "SURVIVED  shop: shop.py: the shop is large (//:shop_test)\nnoticed 1 of 2 (50.0 %)\n"
    )


def test_a_bug_that_breaks_the_file_is_not_noticed_by_a_test(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.seed_bugs(checkout, [BROKEN]) == 1
    assert "BROKEN  shop: shop.py: the shop is there" in capsys.readouterr().out


def test_the_checkout_stays_as_it_is(checkout: Path) -> None:
    before = (checkout / "shop.py").read_text()
    main.seed_bugs(checkout, [NOTICED])
    assert (checkout / "shop.py").read_text() == before
    status = subprocess.run(
        ["git", "status", "--short"], check=True, cwd=checkout, stdout=subprocess.PIPE, text=True
    )
    assert status.stdout == "?? bazelw\n?? shop.py\n?? shop_test.py\n"


def test_tests_that_fail_without_a_bug_show_nothing(checkout: Path) -> None:
    (checkout / "shop.py").write_text("OPEN = False\n")
    with pytest.raises(ScratchError, match="must pass before bugs are put in"):
        main.seed_bugs(checkout, [bug("the shop is open", "False", "0")])


def test_a_bug_that_does_not_fit_is_refused_before_anything_runs(checkout: Path) -> None:
    with pytest.raises(ScratchError, match="the shop is wide: 'WIDE' occurs 0 times"):
        main.seed_bugs(checkout, [NOTICED, bug("the shop is wide", "WIDE", "")])
