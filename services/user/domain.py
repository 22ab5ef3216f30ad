"""Users, with the rules for their profiles and passwords. No I/O, no clock, no protobuf."""

import datetime as dt
import re
import uuid
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

from chassis import errors
from chassis.caller import Caller, Role
from chassis.card_number import is_card_number
from chassis.violations import Violations

UPDATABLE = frozenset({"email", "display_name", "addresses"})

_REGION = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address of a user."""

    label: str
    recipient: str
    lines: tuple[str, ...]
    city: str
    postal_code: str
    region_code: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The fields of a user that clients write."""

    email: str
    display_name: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A person with an account. `version` counts the changes."""

    user_id: uuid.UUID
    profile: Profile
    role: Role
    email_verified: bool
    version: int
    create_time: dt.datetime
    update_time: dt.datetime


def check_profile(profile: Profile) -> Profile:
    """Check what the proto does not state of a profile, and return it in normal form.

    Raises:
        errors.Unprocessable: with a violation per invalid field.
    """
    violations = Violations()
    email = _check_email(violations, profile.email)
    display_name = _check_text(violations, profile.display_name, "display_name", 1, 200)
    addresses = tuple(
        _check_address(violations, address, f"addresses[{index}]")
        for index, address in enumerate(profile.addresses)
    )
    violations.raise_any()
    return Profile(email, display_name, addresses)


def check_etag(user: User, etag: str) -> None:
    """Check that a user has not changed since an etag, if it is not empty.

    Raises:
        errors.Aborted: the user has changed.
    """
    if etag and etag != str(user.version):
        raise errors.Aborted("ETAG_MISMATCH", "The user was changed meanwhile: get it again.")


def check_exists_for(caller: Caller, user_id: uuid.UUID) -> None:
    """Check that a user exists for a caller: users do for themselves, and all do for staff.

    Raises:
        errors.NotFound: the user does not.
    """
    if caller.owner not in {None, user_id}:
        raise errors.not_found("user", user_id)


def check_self(caller: Caller, user_id: uuid.UUID) -> None:
    """Check that a caller is the user whom a call is for; not even staff act for others there.

    Raises:
        errors.NotFound: the caller is another one.
    """
    if user_id != caller.user_id:
        raise errors.not_found("user", user_id)


def check_may_change(caller: Caller, user: User) -> None:
    """Check that a caller may change a user: themselves, staff also customers, admins everybody.

    Otherwise staff could give an admin an e-mail address of their own, and a new password with it.

    Raises:
        errors.PermissionDenied: they may not.
    """
    is_outranked = caller.role is not Role.ADMIN and user.role is not Role.CUSTOMER
    if is_outranked and user.user_id != caller.user_id:
        raise errors.PermissionDenied("ROLE_MISSING", "Only admins may change staff.")


def check_email(email: str) -> str:
    """Check an e-mail address, and return it in normal form.

    Raises:
        errors.Unprocessable: it is none.
    """
    violations = Violations()
    normalized = _check_email(violations, email)
    violations.raise_any()
    return normalized


def normalize_email(email: str) -> str:
    """Return an e-mail address in normal form, or "" for what is none, which no user has."""
    try:
        return check_email(email)
    except errors.Unprocessable:
        return ""


def choose_display_name(name: str, email: str) -> str:
    """Return a name in normal form if it may be stored, or else what is before the @."""
    violations = Violations()
    display_name = violations.check_text(name, "display_name", 1, 200)
    try:
        violations.raise_any()
    except errors.Unprocessable:
        return email.partition("@")[0]
    return display_name


def _check_email(violations: Violations, email: str) -> str:
    """Check an e-mail address; return it in NFC, with its domain in lower case and in Unicode."""
    try:
        # Whether the domain accepts mail is not checked, which would take a DNS query.
        return validate_email(email, check_deliverability=False).normalized
    except EmailNotValidError as error:
        violations.check(False, "email", f"must be an e-mail address: {error}")
        return email


def _check_text(violations: Violations, text: str, field: str, shortest: int, longest: int) -> str:
    """Check a string, in which a card number has no business, and return it in normal form."""
    violations.check(not is_card_number(text), field, "must not be a card number")
    return violations.check_text(text, field, shortest, longest)


def _check_address(violations: Violations, address: Address, field: str) -> Address:
    label = _check_text(violations, address.label, f"{field}.label", 0, 100)
    recipient = _check_text(violations, address.recipient, f"{field}.recipient", 0, 200)
    lines = tuple(
        _check_text(violations, line, f"{field}.lines[{index}]", 1, 200)
        for index, line in enumerate(address.lines)
    )
    city = _check_text(violations, address.city, f"{field}.city", 0, 200)
    postal_code = _check_text(violations, address.postal_code, f"{field}.postal_code", 0, 20)
    violations.check(
        _REGION.fullmatch(address.region_code) is not None,
        f"{field}.region_code",
        "must be an ISO 3166-1 alpha-2 code",
    )
    return Address(label, recipient, lines, city, postal_code, address.region_code)
