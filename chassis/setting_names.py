"""Which names of variables are misspelt settings, and which are no business of a program.

Every program reads the same environment and the same `.env`, and both hold other programs'
variables: those of our other programs, `POSTGRES_DB` for a container of PostgreSQL, and so on. A
name is refused when it can only have been meant for this program:

- it begins with the program's own prefix, and nobody else writes such names (Kubernetes does, for a
  Service of the same name), or
- it is one slip of the finger away from a setting that the program has.
"""

import difflib
import re
from collections.abc import Collection, Iterator

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")
_SWAPPED = 2


def find_misspelt(
    names: Collection[str], known: Collection[str], own_prefix: str
) -> Iterator[tuple[str, str | None]]:
    """Yield each misspelt name with the known one that was probably meant, in alphabetical order.

    All names are in upper case. An empty `own_prefix` is that of a program with no own settings.
    """
    for name in sorted(set(names) - set(known)):
        if own_prefix and name.startswith(own_prefix):
            if not _SERVICE_LINK.fullmatch(name.removeprefix(own_prefix)):
                yield name, _find_closest(name, known, own_prefix)
        elif meant := next((each for each in sorted(known) if _is_one_slip(name, each)), None):
            yield name, meant


def _find_closest(name: str, known: Collection[str], prefix: str) -> str | None:
    own = [each.removeprefix(prefix) for each in sorted(known) if each.startswith(prefix)]
    found = difflib.get_close_matches(name.removeprefix(prefix), own, n=1)
    return prefix + found[0] if found else None


def _is_one_slip(name: str, known: str) -> bool:
    """Say whether one letter is missing, too many or another, or two neighbours are swapped."""
    here, there = _drop_common_start(*_drop_common_start(name[::-1], known[::-1]))
    return max(len(here), len(there)) <= 1 or (len(here) == _SWAPPED and here == there[::-1])


def _drop_common_start(one: str, other: str) -> tuple[str, str]:
    """Return the rests of both after what they have in common, each reversed."""
    pairs = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other))
    start = next((index for index, (left, right) in pairs if left != right), shorter)
    return one[start:][::-1], other[start:][::-1]
