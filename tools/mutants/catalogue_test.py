"""The catalogue of seeded bugs, checked against the sources."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tools.mutants.catalogue import Mutant, find_stale, read_catalogue

WORKSPACE = Path()
MUTANTS = read_catalogue(Path("tools/mutants/catalogue"))
GROUPS = Counter((mutant.file, target) for mutant in MUTANTS for target in mutant.targets)


def test_each_bug_fits_its_file_in_one_spot() -> None:
    assert find_stale(MUTANTS, WORKSPACE) == []


def test_each_bug_changes_something_and_has_a_name_of_its_own() -> None:
    assert [str(mutant) for mutant in MUTANTS if mutant.find == mutant.replacement] == []
    assert max(Counter(map(str, MUTANTS)).values()) == 1


def test_the_list_is_long_enough_to_mean_something() -> None:
    assert len(MUTANTS) >= 80


@pytest.mark.parametrize("target", sorted({target for _, target in GROUPS}))
def test_each_target_is_a_test_of_its_package(target: str) -> None:
    found = re.fullmatch(r"//([a-z0-9_/]+):([a-z0-9_]+)", target)
    assert found is not None
    build = WORKSPACE / found[1] / "BUILD.bazel"
    assert f'name = "{found[2]}"' in build.read_text(encoding="utf-8")


def test_a_bug_that_does_not_fit_its_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("open = True\nopen = True\n")
    twice = Mutant("shop", "the shop is open", "shop.py", "True", "False", ())
    gone = Mutant("shop", "the shop closes", "gone.py", "False", "True", ())
    assert find_stale([twice, gone], tmp_path) == [
        "shop: shop.py: the shop is open: 'True' occurs 2 times, not once",
        "shop: gone.py: the shop closes: 'False' occurs 0 times, not once",
    ]
