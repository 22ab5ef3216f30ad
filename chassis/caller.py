"""Who calls: a user, as an access token says."""

import enum
import uuid
from dataclasses import dataclass


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
