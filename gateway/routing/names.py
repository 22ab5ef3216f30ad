"""Names for things of a document, short and never twice."""

from collections.abc import Collection, Iterable, Iterator, Mapping


def shortest_names(full_names: Iterable[str]) -> Mapping[str, str]:
    """Return the shortest end of each dotted name that no other of them has.

    For example `Book` for `library.v1.Book`, unless there is `archive.v1.Book` too.
    """
    names = sorted(set(full_names))
    owners: dict[str, int] = {}
    for name in names:
        for end in _ends(name):
            owners[end] = owners.get(end, 0) + 1
    return {name: _shortest(name, owners) for name in names}


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return a name that is not taken: the one that is wanted, or else with a number."""
    name = wanted
    number = 1
    while name in taken:
        number += 1
        name = f"{wanted}{number}"
    return name


def _ends(name: str) -> Iterator[str]:
    """Yield `C`, `B.C` and `A.B.C` of `A.B.C`."""
    parts = name.split(".")
    return (".".join(parts[start:]) for start in reversed(range(len(parts))))


def _shortest(name: str, owners: Mapping[str, int]) -> str:
    return next((end for end in _ends(name) if owners[end] == 1), name)
