"""Who calls: a user, as an access token says."""

import enum
import uuid
from dataclasses import dataclass

from chassis import errors


class Role(enum.StrEnum):
    """What a user may do, as it stands in tokens."""

    CUSTOMER = "customer"
    STAFF = "staff"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """A user who is logged in."""

    user_id: uuid.UUID
    role: Role
    session_id: uuid.UUID
    """The login; its tokens end with it."""
    expire_time: float
    """When the token expires, in seconds since the epoch."""

    @property
    def is_staff(self) -> bool:
        """Return whether the caller may act for others; an admin may, too."""
        return self.role is not Role.CUSTOMER

    @property
    def owner(self) -> uuid.UUID | None:
        """Return whose resources exist for the caller; None for those of everybody."""
        return None if self.is_staff else self.user_id

    def act_for(self, user_id: str) -> uuid.UUID:
        """Return the user whom a call is for: the one that it names, or else the caller.

        Raises:
            errors.PermissionDenied: a customer names somebody else.
        """
        named = uuid.UUID(user_id) if user_id else self.user_id
        if named != self.user_id and not self.is_staff:
            raise errors.PermissionDenied("ROLE_MISSING", "Only staff may act for another user.")
        return named
