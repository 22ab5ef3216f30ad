"""Secrets come from files, and a file that cannot be used is named before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chassis import settings
from chassis.settings_testing import SECRET, Environment

pytest_plugins = ["chassis.settings_testing"]


class LampSettings(settings.Settings):
    own_prefix = "LAMP_"

    lamp_key: settings.Password
    lamp_label: str = ""
    lamp_brightness: int = 1


@pytest.fixture
def directory(environment: Environment, tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir()
    environment.monkeypatch.setenv("BAZAAR_SECRETS_DIRECTORY", str(path))
    return path


def read_key(environment: Environment) -> str:
    return environment.load(LampSettings).lamp_key.get_secret_value()


@pytest.mark.parametrize("name", ["LAMP_KEY", "lamp_key"])
def test_a_file_has_the_name_of_its_variable(
    environment: Environment, directory: Path, name: str
) -> None:
    (directory / name).write_text(SECRET)
    assert read_key(environment) == SECRET


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"a\n", "a"), (b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a ", " a "), ("ü".encode(), "ü")],
)
def test_of_white_space_only_the_last_newline_is_removed(
    environment: Environment, directory: Path, content: bytes, value: str
) -> None:
    (directory / "LAMP_KEY").write_bytes(content)
    assert read_key(environment) == value


def test_files_win_over_dotenv_and_their_values_are_checked(
    environment: Environment, directory: Path
) -> None:
    (directory.parent / ".env").write_text("LAMP_KEY=other\nBAZAAR_SECRETS_DIRECTORY=secrets\n")
    environment.monkeypatch.delenv("BAZAAR_SECRETS_DIRECTORY")
    (directory / "LAMP_KEY").write_text(SECRET)
    assert read_key(environment) == SECRET
    (directory / "LAMP_BRIGHTNESS").write_text(SECRET)
    assert environment.refuse(LampSettings) == {"LAMP_BRIGHTNESS"}


def test_a_file_is_found_where_kubernetes_puts_it(
    environment: Environment, directory: Path
) -> None:
    (directory / "..2026_11_22").mkdir()
    (directory / "..2026_11_22/LAMP_KEY").write_text(SECRET)
    (directory / "..data").symlink_to("..2026_11_22")
    (directory / "LAMP_KEY").symlink_to("..data/LAMP_KEY")
    assert read_key(environment) == SECRET


def test_a_setting_must_not_be_in_the_environment_and_in_a_file(
    environment: Environment, directory: Path
) -> None:
    (directory / "LAMP_KEY").write_text(SECRET)
    assert environment.refuse(LampSettings, LAMP_KEY=SECRET) == {"LAMP_KEY"}


def test_a_setting_must_not_be_in_two_files(environment: Environment, directory: Path) -> None:
    for name in ("LAMP_KEY", "lamp_key"):
        (directory / name).write_text(SECRET)
    assert environment.refuse(LampSettings) == {"LAMP_KEY"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\n"),
        lambda path: path.write_bytes(SECRET.encode() + b"\xff"),
        lambda path: path.write_bytes(SECRET.encode() + b"\0"),
        lambda path: path.write_bytes(SECRET.encode() * 10_000),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["empty", "a line without a value", "not UTF-8", "NUL", "large", "a folder", "missing"],
)
def test_a_file_that_cannot_be_used_is_named(
    environment: Environment, directory: Path, spoil: Callable[[Path], object]
) -> None:
    (directory / "LAMP_KEY").write_text(SECRET)
    spoil(directory / "LAMP_LABEL")
    assert environment.refuse(LampSettings) == {"LAMP_LABEL"}


def test_a_file_that_may_not_be_read_is_named(environment: Environment, directory: Path) -> None:
    (directory / "LAMP_KEY").write_text(SECRET)
    (directory / "LAMP_KEY").chmod(0)
    assert environment.refuse(LampSettings) == {"LAMP_KEY"}


def test_a_directory_that_is_missing_is_named(environment: Environment, directory: Path) -> None:
    directory.rmdir()
    assert "BAZAAR_SECRETS_DIRECTORY" in environment.refuse(LampSettings)


def test_a_misspelt_file_is_refused_and_those_of_other_programs_are_not(
    environment: Environment, directory: Path
) -> None:
    for name in ("LAMP_KEY", "SHELF_KEY"):
        (directory / name).write_text(SECRET)
    environment.load(LampSettings)
    (directory / "LAMP_KEYS").write_text(SECRET)
    (line,) = environment.refuse(LampSettings)
    assert line.startswith("LAMP_KEYS is unknown")
