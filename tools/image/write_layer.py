"""Writes runfiles of a Python program as a layer of an image, as layers.bzl asks for.

The same files make the same bytes: entries are sorted, belong to root, and have no times. Compiled
modules are left out, as two compilations of one module may differ.
"""

import argparse
import gzip
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

ROOT = PurePosixPath("app.runfiles")
"""Where the runfiles are in an image. The launcher of a py_binary finds them by the suffix."""
PYTHON = PurePosixPath("usr/bin/python3")
"""What the launcher is run with."""

Files = Mapping[PurePosixPath, Path]
"""Files to be in an image, and where they are now."""


def place(short_path: str, workspace: str) -> PurePosixPath:
    """Return where in an image a file is that Bazel knows by this path."""
    if short_path.startswith("../"):
        return ROOT / short_path.removeprefix("../")
    return ROOT / workspace / short_path


def collect(pairs: Sequence[str], workspace: str) -> Files:
    """Return the files of pairs of a short path and a path; those of a directory one by one."""
    found: dict[PurePosixPath, Path] = {}
    for short_path, path in zip(pairs[::2], pairs[1::2], strict=True):
        found.update(_walk(place(short_path, workspace), _leave_sandbox(Path(path))))
    return found


def write(output: Path, files: Files, links: Mapping[PurePosixPath, str]) -> None:
    """Write the layer with these files and symbolic links."""
    directories = {parent for name in [*files, *links] for parent in name.parents[:-1]}
    with (
        output.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted({*directories, *files, *links}):
            if name in links:
                _add_link(archive, name, links[name])
            elif name in files:
                _add_file(archive, name, files)
            else:
                _add_directory(archive, name)


def _walk(name: PurePosixPath, path: Path) -> Iterator[tuple[PurePosixPath, Path]]:
    if path.is_symlink() or not path.is_dir():
        if path.suffix != ".pyc":
            yield name, path
        return
    for child in path.iterdir():
        yield from _walk(name / child.name, child)


def _leave_sandbox(path: Path) -> Path:
    """Return what a link of the sandbox stands for; they alone are absolute."""
    while path.is_symlink() and path.readlink().is_absolute():
        path = path.readlink()
    return path


def _add_file(archive: tarfile.TarFile, name: PurePosixPath, files: Files) -> None:
    """Add a file, or a relative link as such, unless it points to a file that is not in the layer.

    The links of a virtual environment point to nothing until they are among runfiles.
    """
    path = files[name]
    if path.is_symlink():
        target = str(path.readlink())
        if PurePosixPath(os.path.normpath(name.parent / target)) in files or not path.exists():
            _add_link(archive, name, target)
            return
    state = path.stat()
    header = tarfile.TarInfo(str(name))
    header.size = state.st_size
    header.mode = 0o755 if state.st_mode & stat.S_IXUSR else 0o644
    with path.open("rb") as content:
        archive.addfile(header, content)


def _add_link(archive: tarfile.TarFile, name: PurePosixPath, target: str) -> None:
    header = tarfile.TarInfo(str(name))
    header.type, header.linkname, header.mode = tarfile.SYMTYPE, target, 0o777
    archive.addfile(header)


def _add_directory(archive: tarfile.TarFile, name: PurePosixPath) -> None:
    header = tarfile.TarInfo(str(name))
    header.type, header.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(header)


def main() -> None:
    """Write the layer that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, fromfile_prefix_chars="@")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--python", default="", metavar="SHORT_PATH")
    parser.add_argument("--files", nargs="*", default=[], metavar="SHORT_PATH PATH")
    arguments = parser.parse_args()
    links = {}
    if arguments.python:
        links[PYTHON] = f"/{place(arguments.python, arguments.workspace)}"
    write(arguments.output, collect(arguments.files, arguments.workspace), links)


if __name__ == "__main__":
    main()
