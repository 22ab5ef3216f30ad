"""The rooms of the gateway: a module imports only from its own room and those below it."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOMS = (
    {"main", "commands", "probe", "route_table", "worker"},
    {"app", "dependencies", "docstrings", "health", "settings"},
    {"openapi", "docs"},
    {"calls"},
    {"routing"},
    {"protojson"},
    {"rates"},
    {"server"},
    {"http"},
    {"upstream"},
)
FLOORS = {name: floor for floor, names in enumerate(ROOMS) for name in names}
ALONE = {"protojson", "upstream"}
"""Rooms that import no other room, although others are below them."""

GATEWAY = Path("gateway")
SOURCES = [path for path in GATEWAY.rglob("*.py") if not path.name.endswith("_test.py")]
"""The modules of the program, which are the only ones among the runfiles."""


def imported_modules(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module


def imports() -> Iterator[tuple[str, str, str]]:
    """Yield the room and the name of a module, and a room that it imports, for each import."""
    for source in SOURCES:
        relative = source.relative_to(GATEWAY).with_suffix("")
        for name in imported_modules(source):
            package, *inner = name.split(".")
            if package == GATEWAY.name:
                yield relative.parts[0], str(relative), inner[0]


def test_modules_import_only_rooms_below_their_own() -> None:
    rising = [
        (module, imported)
        for room, module, imported in imports()
        if imported != room and FLOORS[imported] < FLOORS[room]
    ]
    assert rising == []


def test_rooms_that_stand_alone_import_no_other() -> None:
    assert {imported for room, _, imported in imports() if room in ALONE} == ALONE


def test_every_module_of_the_program_is_in_a_room() -> None:
    found = {source.relative_to(GATEWAY).with_suffix("").parts[0] for source in SOURCES}
    assert found == FLOORS.keys()
