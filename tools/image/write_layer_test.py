"""The layers of a program: the same files make the same bytes, and run where an image has them."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.image.write_layer import collect, main, write

OWN = "app.runfiles/_main"


def make(path: Path, content: str = "", mode: int = 0o644, seconds: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    os.utime(path, (seconds, seconds))
    return path


def layer(output: Path, pairs: Sequence[str]) -> dict[str, tarfile.TarInfo]:
    write(output, collect(pairs, "_main"), {})
    with tarfile.open(output) as archive:
        return {member.name: member for member in archive}


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    for number, seconds in enumerate((1, 1_000_000_000)):
        files = [make(tmp_path / str(number) / name, name, 0o640, seconds) for name in "ab"]
        # Bazel may give the files in another order, and from another place.
        pairs = [text for file in files[:: 1 - 2 * number] for text in (file.name, str(file))]
        layer(tmp_path / f"{number}.tar.gz", pairs)
    first = (tmp_path / "0.tar.gz").read_bytes()
    assert first == (tmp_path / "1.tar.gz").read_bytes()
    # The time in the header of gzip (RFC 1952, section 2.3).
    assert first[4:8] == bytes(4)


def test_entries_are_sorted_belong_to_root_and_have_no_times(tmp_path: Path) -> None:
    file = make(tmp_path / "file", seconds=1_000_000_000)
    found = layer(tmp_path / "layer", ["b/c", str(file), "a", str(file)])
    assert list(found) == ["app.runfiles", OWN, f"{OWN}/a", f"{OWN}/b", f"{OWN}/b/c"]
    for member in found.values():
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mtime == 0


def test_programs_stay_executable(tmp_path: Path) -> None:
    program, module = make(tmp_path / "p", mode=0o500), make(tmp_path / "m", mode=0o666)
    found = layer(tmp_path / "layer", ["p", str(program), "m", str(module)])
    assert (found[f"{OWN}/p"].mode, found[f"{OWN}/m"].mode) == (0o755, 0o644)


def test_files_of_other_repositories_are_beside_those_of_the_workspace(tmp_path: Path) -> None:
    make(tmp_path / "wheel" / "package" / "module.py")
    found = layer(tmp_path / "layer", ["../wheel/site-packages", str(tmp_path / "wheel")])
    assert "app.runfiles/wheel/site-packages/package/module.py" in found


def test_compiled_modules_are_left_out(tmp_path: Path) -> None:
    make(tmp_path / "wheel" / "__pycache__" / "module.cpython-311.pyc")
    make(tmp_path / "wheel" / "module.pyc")
    found = layer(tmp_path / "layer", ["wheel", str(tmp_path / "wheel")])
    assert found == {}


def test_links_of_the_sandbox_are_files_of_the_layer(tmp_path: Path) -> None:
    file = make(tmp_path / "file", "content")
    (tmp_path / "first").symlink_to(file)
    (tmp_path / "second").symlink_to(tmp_path / "first")
    found = layer(tmp_path / "layer", ["file", str(tmp_path / "second")])
    assert found[f"{OWN}/file"].isfile()
    assert found[f"{OWN}/file"].size == len("content")


def test_a_relative_link_stays_one_if_the_layer_has_its_target(tmp_path: Path) -> None:
    make(tmp_path / "python" / "bin" / "python3.11", "program")
    link = tmp_path / "python" / "bin" / "python3"
    link.symlink_to("python3.11")
    (tmp_path / "sandbox").symlink_to(link)
    both = layer(tmp_path / "both", ["../python", str(tmp_path / "python")])
    assert both["app.runfiles/python/bin/python3"].linkname == "python3.11"
    alone = layer(tmp_path / "alone", ["../python/bin/python3", str(tmp_path / "sandbox")])
    assert alone["app.runfiles/python/bin/python3"].size == len("program")


def test_a_link_that_leads_nowhere_before_it_is_installed_stays_one(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to("../../../python/bin/python3")
    found = layer(tmp_path / "layer", ["_venv/bin/python3", str(tmp_path / "python3")])
    assert found[f"{OWN}/_venv/bin/python3"].linkname == "../../../python/bin/python3"


def test_the_interpreter_is_found_where_a_system_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, output = make(tmp_path / "python3.11", mode=0o755), tmp_path / "layer"
    lines = ["--output", str(output), "--workspace=_main", "--python", "../python/bin/python3.11"]
    lines += ["--files", "../python/bin/python3.11", str(python)]
    parameters = make(tmp_path / "parameters", "\n".join(lines))
    monkeypatch.setattr("sys.argv", ["write_layer", f"@{parameters}"])
    main()
    with tarfile.open(output) as archive:
        link = archive.getmember("usr/bin/python3")
        assert archive.getmember(link.linkname.strip("/")).mode == 0o755
