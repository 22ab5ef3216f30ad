"""Full names of protobuf elements, made as short as they can be without ambiguity."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping


def shortest_names(full_names: Iterable[str]) -> Mapping[str, str]:
    """Return, for each dotted name, its shortest suffix that no other of them has.

    For example `Book` for `library.v1.Book`, unless there is `archive.v1.Book` too.
    """
    names = sorted(set(full_names))
    owners = Counter(suffix for name in names for suffix in _suffixes(name))
    return {
        name: next((suffix for suffix in _suffixes(name) if owners[suffix] == 1), name)
        for name in names
    }


def _suffixes(name: str) -> Iterator[str]:
    """Yield `C`, `B.C` and `A.B.C` of `A.B.C`."""
    parts = name.split(".")
    return (".".join(parts[start:]) for start in reversed(range(len(parts))))
