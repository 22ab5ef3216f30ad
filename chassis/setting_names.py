"""Which names of variables are misspelt settings, and which belong to other programs.

All programs share the environment and `.env`, which hold variables of others too: those of our
other programs, `POSTGRES_DB` for a container of PostgreSQL, and so on. A name is refused only if it
can be meant for nothing but this program:

- it begins with the program's own prefix, and is not one of the variables that Kubernetes sets for
  a Service of that name, or
- it is one typo away from a setting that the program has.
"""

import difflib
import re
from collections.abc import Collection, Iterator

# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?")


def find_misspelt(
    names: Collection[str], known: Collection[str], own_prefix: str
) -> Iterator[tuple[str, str | None]]:
    """Yield each misspelt name with the known one that was probably meant, in alphabetical order.

    All names are in upper case. A program without settings of its own has an empty `own_prefix`.
    """
    for name in sorted(set(names) - set(known)):
        if own_prefix and name.startswith(own_prefix):
            if not _SERVICE_LINK.fullmatch(name.removeprefix(own_prefix)):
                yield name, _find_closest(name, known, own_prefix)
        elif meant := next((each for each in sorted(known) if _is_one_typo(name, each)), None):
            yield name, meant


def _find_closest(name: str, known: Collection[str], prefix: str) -> str | None:
    own = [each.removeprefix(prefix) for each in sorted(known) if each.startswith(prefix)]
    found = difflib.get_close_matches(name.removeprefix(prefix), own, n=1)
    return prefix + found[0] if found else None


def _is_one_typo(name: str, known: str) -> bool:
    """Return whether one letter is missing, extra or wrong, or two neighbours are swapped."""
    while name and known and name[0] == known[0]:
        name, known = name[1:], known[1:]
    return (
        name[1:] == known
        or name == known[1:]
        or name[1:] == known[1:]
        or (name[:2] == known[:2][::-1] and name[2:] == known[2:])
    )
