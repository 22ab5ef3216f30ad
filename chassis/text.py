"""Text for people: which characters it may contain, and how it is normalized."""

import unicodedata

MAX_MARKS = 30
"""The most combining marks in a row, as in stream-safe text (UAX #15, section 13)."""

# Emoji and some scripts, such as Persian and those of India, are joined with these.
_JOINERS = "\u200c\u200d"
_LINE_BREAKS = "\n\r\t"
_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's general categories of control and format characters, surrogates, and line and paragraph
separators."""


def is_readable(text: str, *, multiline: bool = False) -> bool:
    """Return whether a text is free of control and format characters, and of long runs of marks.

    Joiners are allowed, as are up to `MAX_MARKS` combining marks in a row; `multiline` allows line
    breaks and tabs.
    """
    if text.isascii() and text.isprintable():
        return True
    allowed = _JOINERS + _LINE_BREAKS if multiline else _JOINERS
    marks = "".join("M" if unicodedata.combining(character) else "." for character in text)
    return "M" * (MAX_MARKS + 1) not in marks and not any(
        unicodedata.category(character) in _INVISIBLE and character not in allowed
        for character in text
    )


def normalize(text: str) -> str:
    """Return a readable text in Unicode's normalization form C, without white space around it.

    The text must be readable: Python's time to sort combining marks grows with the square of the
    length of their run.
    """
    return unicodedata.normalize("NFC", text).strip(_SPACE + _JOINERS)
