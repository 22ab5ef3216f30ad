"""Checks the values of a request, and raises one error for all that break a rule."""

from chassis import errors
from chassis.text import is_readable, normalize

UNREADABLE = "must not contain control or format characters, nor more than 30 marks on a letter"


class Violations:
    """Collects every rule that a request breaks, so that a client learns of all of them at once."""

    def __init__(self) -> None:
        self._found: list[errors.Violation] = []

    def check(self, holds: bool, field: str, rule: str) -> None:
        """Add the violation that `field` breaks `rule` ("must ..."), unless it holds."""
        if not holds:
            self._found.append(errors.Violation(field, rule))

    def check_text(
        self, text: str, field: str, shortest: int, longest: int, *, multiline: bool = False
    ) -> str:
        """Check a text for people and return it normalized: see `chassis.text`.

        Lengths are in characters; `longest` bounds the text as given and as normalized.
        `multiline` allows line breaks and tabs.
        """
        if len(text) <= longest:
            if not is_readable(text, multiline=multiline):
                self.check(False, field, UNREADABLE)
                return text
            text = normalize(text)
        fits = shortest <= len(text) <= longest
        self.check(fits, field, f"must have {shortest} to {longest} characters")
        return text

    def raise_any(self) -> None:
        """Raise one error for all violations.

        Raises:
            errors.Unprocessable: there is a violation.
        """
        if self._found:
            raise errors.Unprocessable("INVALID_FIELD", violations=self._found)
