"""Which characters texts may contain, and how they are normalized."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import text

FAMILY = "\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (" Ada \u00a0Lovelace\n", "Ada \u00a0Lovelace"),
        ("\u3000", ""),
        (" \u200d \u200c ", ""),
        ("Zoe\u0308", "Zo\u00eb"),
        (FAMILY, FAMILY),
        (PERSIAN, PERSIAN),
    ],
)
def test_normalize_composes_and_strips(written: str, kept: str) -> None:
    assert text.normalize(written) == kept


@given(st.text())
def test_normalize_is_idempotent(written: str) -> None:
    kept = text.normalize(written)
    assert text.normalize(kept) == kept
    assert unicodedata.is_normalized("NFC", kept)


INVISIBLE = ["\x00", "\x1b", "\x7f", "\x85", "\xad", "\u200b", "\u202e", "\u2028", "\ufeff"]


@pytest.mark.parametrize("character", INVISIBLE)
@pytest.mark.parametrize("multiline", [False, True])
def test_invisible_characters_are_unreadable(character: str, multiline: bool) -> None:
    assert not text.is_readable(f"a{character}b", multiline=multiline)


@pytest.mark.parametrize("written", ["Ada Lovelace", "\u65e5\u672c\u3000\u8a9e", FAMILY, PERSIAN])
def test_scripts_and_emoji_are_readable(written: str) -> None:
    assert text.is_readable(written)


@pytest.mark.parametrize("character", "\n\r\t")
def test_line_breaks_are_readable_in_multiline_text_only(character: str) -> None:
    assert not text.is_readable(f"a{character}b")
    assert text.is_readable(f"a{character}b", multiline=True)


def test_a_long_run_of_marks_is_unreadable() -> None:
    assert text.is_readable("a" + "\u0301\u0316" * 15)
    assert not text.is_readable("a" + "\u0301\u0316" * 15 + "\u0301")
