"""Title, version and description of an API, from the packages and files of its services."""

import re
from collections.abc import Collection, Sequence
from itertools import takewhile

from gateway.openapi.comments import Comments
from gateway.upstream.descriptors import DescriptorSet

_VERSION = re.compile(r"v[0-9]+(?:(?:alpha|beta|p)[0-9]+)*")


def make_info(
    descriptors: DescriptorSet, services: Collection[str], comments: Comments
) -> dict[str, str]:
    """Return title, version and description of the API of some services."""
    packages = [service.rpartition(".")[0].split(".") for service in services]
    files = {descriptors.pool.FindFileContainingSymbol(service).name: None for service in services}
    described = [comments.of_file(name) for name in files]
    info = {"title": _title(packages), "version": _version(packages)}
    if any(described):
        info["description"] = "\n\n".join(filter(None, described))
    return info


def _title(packages: Sequence[Sequence[str]]) -> str:
    """Return a name made of the common prefix of the packages, for example `Bazaar API`."""
    common = [
        parts[0]
        for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*packages, strict=False))
    ]
    words = [word for word in common if _VERSION.fullmatch(word) is None]
    name = " ".join([*words, "API"])
    return name[:1].upper() + name[1:]


def _version(packages: Sequence[Sequence[str]]) -> str:
    """Return the versions at the ends of packages, where buf and AIP-215 require them."""
    versions = {package[-1]: None for package in packages if _VERSION.fullmatch(package[-1])}
    return ", ".join(versions) or "1"
