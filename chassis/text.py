"""Text that people write and read: what it may consist of, and the form in which it is kept."""

import unicodedata

MAX_MARKS = 30
"""The most combining marks in a row, as in stream-safe text (UAX #15, section 13)."""

# Scripts, among them Persian and those of India, and emoji join letters with these.
_JOINERS = "\u200c\u200d"
_LINE_BREAKS = "\n\r\t"
_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""The general categories of control and format characters, surrogates and separators of lines."""


def is_readable(text: str, *, lines: bool = False) -> bool:
    """Tell whether a text has no control or format characters, nor more than `MAX_MARKS` in a row.

    `lines` allows line breaks and tabs.
    """
    if text.isascii() and text.isprintable():
        return True
    allowed = _JOINERS + _LINE_BREAKS if lines else _JOINERS
    marks = "".join("M" if unicodedata.combining(character) else "." for character in text)
    return "M" * (MAX_MARKS + 1) not in marks and not any(
        unicodedata.category(character) in _INVISIBLE and character not in allowed
        for character in text
    )


def normalize(text: str) -> str:
    """Return a readable text in Unicode's form NFC, without white space around it.

    Python sorts marks in a row in time with the square of their number: a text that is not readable
    may have any number.
    """
    return unicodedata.normalize("NFC", text).strip(_SPACE + _JOINERS)
