"""How much the parser reads at once; its results are in the table of `raw_requests`."""

import pytest

from gateway.server.parser import RequestParser
from gateway.server.raw_rows import LAST, chunked

CONTENT_BYTES = 60_000


@pytest.mark.parametrize("line", [b"\r\n", b"\r\n\r\nx", b'{"id":"1"}\r\n\r\n'])
def test_content_full_of_empty_lines_is_read_quickly(line: bytes) -> None:
    """Line by line, with a turn of the event loop for each, 1 MB would take seconds."""
    parser = RequestParser()
    parser.read_head(chunked(b""))
    content = line * (CONTENT_BYTES // len(line))
    begun = b"%x\r\n%s" % (len(content), content)
    assert parser.read_body(begun) == (content, len(begun))
    assert parser.read_body(b"\r\n" + LAST + LAST) == (b"", len(b"\r\n" + LAST))
    assert parser.complete
