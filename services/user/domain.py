"""What a user is and which rules it keeps. No I/O, no clock, no wire format."""

import datetime as dt
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, replace

from chassis import errors

MAX_ADDRESSES = 20
UPDATABLE = frozenset({"email", "display_name", "addresses"})

_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+")
_REGION = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send things."""

    label: str
    recipient: str
    lines: tuple[str, ...]
    city: str
    postal_code: str
    region_code: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a user says of themselves."""

    email: str
    display_name: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account. `version` counts the changes."""

    user_id: uuid.UUID
    profile: Profile
    version: int
    create_time: dt.datetime
    update_time: dt.datetime


def check_profile(profile: Profile) -> None:
    """Check every rule of a profile.

    Raises:
        errors.Unprocessable: naming each field that breaks its rule.
    """
    violations = errors.Violations()
    violations.check(
        len(profile.email) <= 254 and _EMAIL.fullmatch(profile.email) is not None,
        "email",
        "must be an e-mail address of at most 254 characters",
    )
    violations.check_text(profile.display_name, "display_name", 1, 200)
    violations.check(
        len(profile.addresses) <= MAX_ADDRESSES,
        "addresses",
        f"must be at most {MAX_ADDRESSES}",
    )
    for index, address in enumerate(profile.addresses):
        _check_address(violations, address, f"addresses[{index}]")
    violations.raise_any()


def check_password(password: str, field: str) -> None:
    """Check the length of a password.

    Raises:
        errors.Unprocessable: it is too short or too long.
    """
    violations = errors.Violations()
    violations.check(8 <= len(password) <= 128, field, "must have 8 to 128 characters")
    violations.raise_any()


def update_profile(user: User, changes: Profile, fields: Collection[str], etag: str) -> Profile:
    """Return the profile of a user with the named fields changed; the same one if none differs.

    Raises:
        errors.Aborted: the etag is given and is not that of the user as it is now.
        errors.Unprocessable: the outcome breaks a rule.
    """
    if etag and etag != str(user.version):
        raise errors.Aborted("ETAG_MISMATCH", "The user was changed meanwhile: get it again.")
    updated = replace(user.profile, **{field: getattr(changes, field) for field in fields})
    check_profile(updated)
    return updated


def _check_address(violations: errors.Violations, address: Address, field: str) -> None:
    violations.check_text(address.label, f"{field}.label", 0, 100)
    violations.check_text(address.recipient, f"{field}.recipient", 0, 200)
    violations.check(len(address.lines) <= 5, f"{field}.lines", "must be at most 5")
    for index, line in enumerate(address.lines):
        violations.check_text(line, f"{field}.lines[{index}]", 1, 200)
    violations.check_text(address.city, f"{field}.city", 0, 200)
    violations.check_text(address.postal_code, f"{field}.postal_code", 0, 20)
    violations.check(
        _REGION.fullmatch(address.region_code) is not None,
        f"{field}.region_code",
        "must be an ISO 3166-1 alpha-2 code",
    )
