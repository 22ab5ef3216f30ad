"""The errors that end a call, as a hierarchy.

Domains and repositories raise them without importing grpc: `code` names the gRPC status, and
`chassis.status` makes the message for the client. Any other exception is a defect, and becomes
INTERNAL without details.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from chassis.text import is_readable, normalize

UNREADABLE = "must not contain control or format characters, nor more than 30 marks on a letter"


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, by its path, and the rule that it breaks."""

    field: str
    rule: str


def join(violations: Iterable[Violation]) -> str:
    """Return the message of an error with these violations: "sku must not contain NUL; ..."."""
    return "; ".join(f"{violation.field} {violation.rule}" for violation in violations)


class Error(Exception):
    """The base of all errors.

    `reason` is UPPER_SNAKE and stable: clients may act on it (AIP-193). `message` is for people.
    `metadata` identifies the resource. None of them may contain a secret.
    """

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int | None] = None
    """A more precise HTTP status than the canonical one of `code`, where there is one."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)


class InvalidArgument(Error):
    """The request cannot be understood."""

    code = "INVALID_ARGUMENT"


class Unprocessable(InvalidArgument):
    """The request is understood, and a value in it breaks a rule."""

    http_status = 422


class KeyReused(Unprocessable):
    """The idempotency key was used for another request."""


class PermissionDenied(Error):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class NotFound(Error):
    """The resource does not exist, or the caller may not know that it does."""

    code = "NOT_FOUND"


class AlreadyExists(Error):
    """Another resource has a value that must be unique."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(Error):
    """The resource is not in a state that allows this."""

    code = "FAILED_PRECONDITION"


class Aborted(Error):
    """A concurrent change won: read the resource again and retry."""

    code = "ABORTED"


class DeadlineExceeded(Error):
    """The call did not finish in time."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(Error):
    """A dependency is down: the same request may succeed later."""

    code = "UNAVAILABLE"


class Unimplemented(Error):
    """The method exists in the contract and not yet in the service."""

    code = "UNIMPLEMENTED"


class Violations:
    """Collects every rule that a request breaks, so that a client learns of all of them at once."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def check(self, holds: bool, field: str, rule: str) -> None:
        """Add the violation that `field` breaks `rule` ("must ..."), unless it holds."""
        if not holds:
            self._found.append(Violation(field, rule))

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
            Unprocessable: there is a violation.
        """
        if self._found:
            raise Unprocessable("INVALID_FIELD", join(self._found), violations=self._found)
