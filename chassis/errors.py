"""The errors that end a call, as a hierarchy.

Domains and repositories raise them without importing grpc: `code` names the gRPC status, and
`chassis.status` makes the message for the client. Any other exception is a defect, and becomes
INTERNAL without details.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, by its path, and the rule that it breaks."""

    field: str
    rule: str


class Error(Exception):
    """The base of all errors.

    `reason` is UPPER_SNAKE and stable: clients may act on it (AIP-193). `message` is for people; by
    default it names the violations. `metadata` identifies the resource. None of them may contain a
    secret.
    """

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int | None] = None
    """A more precise HTTP status than the canonical one of `code`, where there is one."""

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        self.reason = reason
        self.message = message or "; ".join(f"{each.field} {each.rule}" for each in violations)
        super().__init__(self.message)
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


class Unauthenticated(Error):
    """The caller did not prove who they are."""

    code = "UNAUTHENTICATED"


class PermissionDenied(Error):
    """The caller may not do this."""

    code = "PERMISSION_DENIED"


class NotFound(Error):
    """The resource does not exist, or the caller may not know that it does."""

    code = "NOT_FOUND"


def not_found(resource: str, resource_id: uuid.UUID) -> NotFound:
    """Return the error for a missing resource; "user" makes the reason USER_NOT_FOUND."""
    return NotFound(
        f"{resource.upper()}_NOT_FOUND",
        f"There is no {resource} {resource_id}.",
        metadata={f"{resource}_id": str(resource_id)},
    )


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


class FailedCallError(Exception):
    """A call to another service failed.

    `call` has the request's type and the code. The message has why, too, for example the address
    that could not be reached.
    """

    def __init__(self, call: str, details: str) -> None:
        super().__init__(f"{call}: {details}")
        self.call = call
