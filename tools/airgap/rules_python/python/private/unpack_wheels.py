"""Unpacks the wheels of a requirements lock, each into a Bazel package with one py_library.

Called by wheels.bzl with LOCK WHEELS DESTINATION. Each wheel becomes DESTINATION/NAME, its modules
in `site-packages`, its scripts in `bin`, and its Requires-Dist the deps of its library. Modules are
compiled ahead, so that no test has to. Nothing here reads the network.
"""

import compileall
import os
import py_compile
import re
import shutil
import sys
import zipfile
from concurrent.futures import ProcessPoolExecutor
from email import message_from_bytes
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename

# Where each scheme of a wheel's .data directory goes (binary distribution format, "File contents").
SCHEMES = {
    "data": "data",
    "headers": "include",
    "platlib": "site-packages",
    "purelib": "site-packages",
    "scripts": "bin",
}

# The whole of site-packages is one input: a sandbox then holds one link a wheel, not thousands.
BUILD = """\
py_library(
    name = "{name}",
    data = ["site-packages"],
    imports = ["site-packages"],
    visibility = ["//visibility:public"],
    deps = {deps},
)

alias(
    name = "pkg",
    actual = ":{name}",
    visibility = ["//visibility:public"],
)

filegroup(
    name = "extracted_whl_files",
    srcs = glob(["*"], exclude = ["BUILD.bazel"], exclude_directories = 0),
    visibility = ["//visibility:public"],
)
"""


def read_lock(path: Path) -> dict[str, Requirement]:
    """Reads the pinned requirements, by canonical name."""
    pins = re.findall(r"^(\S+==[^\s\\]+)", path.read_text(), flags=re.MULTILINE)
    requirements = [Requirement(pin) for pin in pins]
    return {canonicalize_name(each.name): each for each in requirements}


def bazel_name(name: str) -> str:
    """Spells a distribution's name as rules_python does in labels."""
    canonical: str = canonicalize_name(name)
    return canonical.replace("-", "_")


def destination_of(member: str) -> str:
    """Maps a wheel's member to its place in the unpacked package."""
    top, _, rest = member.partition("/")
    if not top.endswith(".data"):
        return f"site-packages/{member}"
    scheme, _, inside = rest.partition("/")
    return f"{SCHEMES[scheme]}/{inside}"


def unpack(wheel: Path, package: Path) -> None:
    """Unpacks one wheel with its files' modes and compiles its modules."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or member.filename.endswith(".dist-info/RECORD"):
                continue
            target = package / destination_of(member.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            if member.external_attr >> 16 & 0o111 or target.parent.name == "bin":
                target.chmod(0o755)
    compileall.compile_dir(
        package / "site-packages",
        quiet=2,  # Some wheels carry templates that are not valid Python.
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def read_dependencies(package: Path, extras: set[str], locked: dict[str, Requirement]) -> list[str]:
    """Lists the locked distributions that an unpacked wheel requires on this machine."""
    (metadata,) = package.glob("site-packages/*.dist-info/METADATA")
    found = set()
    for line in message_from_bytes(metadata.read_bytes()).get_all("Requires-Dist", []):
        required = Requirement(line)
        marker = required.marker
        wanted = marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras})
        if wanted and canonicalize_name(required.name) in locked:
            found.add(bazel_name(required.name))
    return sorted(found - {package.name})


def make_package(wheel: Path, destination: Path, locked: dict[str, Requirement]) -> None:
    """Makes the Bazel package of one wheel."""
    name = parse_wheel_filename(wheel.name)[0]
    package = destination / bazel_name(name)
    unpack(wheel, package)
    deps = read_dependencies(package, locked[name].extras, locked)
    build = BUILD.format(name=package.name, deps=[f"//{dep}" for dep in deps])
    (package / "BUILD.bazel").write_text(build)


def main() -> None:
    """Unpacks all wheels, a few at a time."""
    lock, wheels, destination = map(Path, sys.argv[1:])
    locked = read_lock(lock)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        # Largest first, so that no processor waits for one late wheel.
        by_size = sorted(wheels.glob("*.whl"), key=lambda wheel: -wheel.stat().st_size)
        jobs = [pool.submit(make_package, wheel, destination, locked) for wheel in by_size]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
