"""Compares records side by side, in the order of their keys.

Memory does not grow with the number of orders.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from types import MappingProxyType
from typing import Any, TypeAlias

import psycopg

from tools.reconcile.books import Books, sorted_rows
from tools.reconcile.comparisons import COMPARISONS, Comparison, Records

MAX_EXAMPLES = 20
"""How many differences of a comparison are described; the others are counted."""
CONNECT_SECONDS = 5
"""How long connecting to a database may take."""

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
Row = tuple[str, str]
"""A key and what is recorded for it."""


@dataclass(slots=True)
class Result:
    """How many records were compared, and how many keys differ, with some examples."""

    comparison: Comparison
    compared: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)


def compare(
    urls: Mapping[str, str],
    comparisons: Sequence[Comparison] = COMPARISONS,
    books: Mapping[str, Books] = MappingProxyType({}),
) -> list[Result]:
    """Compare pairs of records, on one connection per database.

    `urls` are those of the databases by their names, `books` those of the providers that are
    compared.

    Raises:
        psycopg.Error: a database cannot be read.
        httpx.HTTPError: the books of a provider cannot be read.
    """
    sources = {side.source for each in comparisons for side in (each.expected, each.found)}
    with ExitStack() as stack:
        connections = {
            name: stack.enter_context(psycopg.connect(urls[name], connect_timeout=CONNECT_SECONDS))
            for name in sources - books.keys()
        }
        for connection in connections.values():
            connection.read_only = True
        return [_compare(connections, books, comparison) for comparison in comparisons]


def _compare(
    connections: Mapping[str, Connection], books: Mapping[str, Books], comparison: Comparison
) -> Result:
    result = Result(comparison)
    with ExitStack() as stack:
        expected_rows = _read(stack, connections, comparison.expected, "expected")
        if comparison.found.source in books:
            provider = comparison.found.source
            references = _read_references(stack, connections["payment"], provider)
            found_rows = sorted_rows(books[provider].read(references))
        else:
            found_rows = _read(stack, connections, comparison.found, "found")
        for key, expected, found in _merge(expected_rows, found_rows):
            result.compared += 1
            if expected == found or (found is None and comparison.partial):
                continue
            result.differences += 1
            if len(result.examples) < MAX_EXAMPLES:
                result.examples.append(f"{key}: {_describe(expected)}, but {_describe(found)}")
    return result


def _read(
    stack: ExitStack, connections: Mapping[str, Connection], records: Records, name: str
) -> Iterator[Row]:
    cursor = stack.enter_context(connections[records.source].cursor(name))
    # Merging needs the order of the keys' bytes, whatever the collation of the database is.
    cursor.execute(
        f'SELECT * FROM ({records.query}) AS record (key, value) ORDER BY key COLLATE "C"'
    )
    return iter(cursor)


def _read_references(stack: ExitStack, payments: Connection, provider: str) -> Iterator[str]:
    cursor = stack.enter_context(payments.cursor("references"))
    cursor.execute(
        "SELECT provider_reference FROM payments WHERE provider = %s AND provider_reference <> ''",
        (provider,),
    )
    return (reference for (reference,) in cursor)


def _merge(
    expected_rows: Iterable[Row], found_rows: Iterable[Row]
) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield every key with its values on both sides; None where a side does not have the key."""
    merged = heapq.merge(_mark(expected_rows, 0), _mark(found_rows, 1))
    for key, rows in itertools.groupby(merged, key=itemgetter(0)):
        values: tuple[list[str], list[str]] = ([], [])
        for _, side, value in rows:
            values[side].append(value)
        expected, found = (" and ".join(each) if each else None for each in values)
        yield key, expected, found


def _mark(rows: Iterable[Row], side: int) -> Iterator[tuple[str, int, str]]:
    for key, value in rows:
        yield key, side, value


def _describe(value: str | None) -> str:
    # Where only the keys are compared, all values are empty.
    return "nothing" if value is None else value or "one"
