"""What clients may send on a connection, byte by byte, and how the gateway responds.

A table to be read: each row has what is sent, what must happen, and why. `connection_test` sends
each row to a running gateway whole, line by line and byte by byte: how the bytes are divided must
make no difference. Where a rule leaves a choice, the strict one is taken, so that no proxy in front
can understand a request in another way.

PYTEST_DONT_REWRITE: nothing here asserts.
"""

from collections.abc import Iterator, Mapping

from gateway.server import raw_bodies, raw_heads, raw_sequences
from gateway.server.raw_rows import Row

GROUPS: Mapping[str, list[Row]] = {
    "request lines": raw_heads.REQUEST_LINES,
    "headers": raw_heads.HEADERS,
    "lengths": raw_bodies.LENGTHS,
    "transfer codings": raw_bodies.CODINGS,
    "chunks": raw_bodies.CHUNKS,
    "trailers": raw_bodies.TRAILERS,
    "upgrades": raw_sequences.UPGRADES,
    "pipelines": raw_sequences.PIPELINES,
    "uploads": raw_sequences.UPLOADS,
}


def all_rows() -> Iterator[tuple[str, Row]]:
    """Yield each row with its name among all."""
    for group, rows in GROUPS.items():
        for row in rows:
            yield f"{group}: {row.name}", row
