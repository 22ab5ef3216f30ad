"""Shows that the tests bite: puts known bugs into a copy of the sources, one at a time.

Each bug is run against its nearest tests, and counts as noticed when a test case fails. A timeout
or a broken build does not count: it names no behaviour. The checkout itself is not changed.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tools.mutants.catalogue import Mutant, apply, find_stale, read_catalogue
from tools.mutants.scratch import ScratchError, TestRun, run_tests, scratch_copy

WANTED_PERCENT = 95.0
CATALOGUE = "tools/mutants/catalogue"

_NOTICED = "noticed"
_SURVIVED = "SURVIVED"
_TIMED_OUT = "TIMED OUT"
_BROKEN = "BROKEN"


def main() -> int:
    """Run what the command line asks for; return 0 if enough of the bugs were noticed."""
    given = _parse_arguments()
    checkout = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"])
    mutants = [
        mutant for mutant in read_catalogue(checkout / CATALOGUE) if given.only.search(str(mutant))
    ]
    if given.list:
        print(*mutants, sep="\n")
        return 0
    try:
        return seed_bugs(checkout, mutants)
    except ScratchError as error:
        print(error, file=sys.stderr)
        return 2


def seed_bugs(checkout: Path, mutants: Sequence[Mutant]) -> int:
    """Put each bug in, in a copy of the checkout; return 0 if enough of them were noticed.

    Raises:
        ScratchError: a bug does not fit its file, or a test fails without any bug.
    """
    if stale := find_stale(mutants, checkout):
        raise ScratchError("\n".join(stale))
    if not mutants:
        raise ScratchError("No bug was chosen.")
    with scratch_copy(checkout) as workspace:
        _check_sound(workspace, mutants)
        verdicts = {}
        for number, mutant in enumerate(mutants, start=1):
            begin = time.monotonic()
            run = _run_with(mutant, workspace)
            verdicts[mutant] = _judge(run)
            seconds = time.monotonic() - begin
            where = f"{number:3}/{len(mutants)} {seconds:5.1f} s"
            _say(f"{where}  {verdicts[mutant]:9}  {mutant}{_explain(run)}")
    return _summarise(verdicts)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./bazelw run //tools/mutants --",
        description=__doc__,
        epilog=f"Exits with 1 if less than {WANTED_PERCENT:g} % of the bugs are noticed, with 2 if"
        " they could not be tried. The bugs are in tools/mutants/catalogue.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        metavar="REGEX",
        type=re.compile,
        default=re.compile(""),
        help="try only the bugs whose line of --list matches",
    )
    parser.add_argument("--list", action="store_true", help="list the bugs and try none")
    return parser.parse_args()


def _check_sound(workspace: Path, mutants: Sequence[Mutant]) -> None:
    targets = sorted({target for mutant in mutants for target in mutant.targets})
    _say(f"{len(targets)} test targets without a bug")
    run = run_tests(workspace, targets, "--flaky_test_attempts=3")
    if not run.passed:
        raise ScratchError(f"{run.output}\nThese tests must pass before bugs are put in.")


def _run_with(mutant: Mutant, workspace: Path) -> TestRun:
    source = apply(mutant, workspace)
    try:
        return run_tests(workspace, mutant.targets, "--notest_keep_going")
    finally:
        (workspace / mutant.file).write_text(source, encoding="utf-8")


def _judge(run: TestRun) -> str:
    if run.failed_cases:
        return _NOTICED
    if run.passed:
        return _SURVIVED
    return _TIMED_OUT if run.timed_out else _BROKEN


def _explain(run: TestRun) -> str:
    """Return what to append to a bug's line: by which test it was noticed, or why it was not."""
    named = run.failed_cases or run.timed_out
    if named or run.passed:
        return "".join(f"\n{'':24}by {name}" for name in named)
    return f"\n{run.output}"


def _summarise(verdicts: dict[Mutant, str]) -> int:
    for mutant, verdict in verdicts.items():
        if verdict != _NOTICED:
            print(f"{verdict}  {mutant} ({' '.join(mutant.targets)})")
    noticed = Counter(verdicts.values())[_NOTICED]
    percent = 100 * noticed / len(verdicts)
    print(f"noticed {noticed} of {len(verdicts)} ({percent:.1f} %)")
    return int(percent < WANTED_PERCENT)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
