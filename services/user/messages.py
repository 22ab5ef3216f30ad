"""Conversion between the messages of the user service and its domain."""

from collections.abc import Mapping, Sequence
from typing import Final

from bazaar.user.v1 import user_pb2
from chassis import conversion
from chassis.audit import Change
from chassis.caller import Role
from services.user.domain import Address, Profile, User
from services.user.session_repository import Revocation
from services.user.sessions import Tokens

_ROLES: Final[Mapping[Role, "user_pb2.Role.ValueType"]] = {
    Role.CUSTOMER: user_pb2.ROLE_CUSTOMER,
    Role.STAFF: user_pb2.ROLE_STAFF,
    Role.ADMIN: user_pb2.ROLE_ADMIN,
}


def parse_role(number: "user_pb2.Role.ValueType") -> Role:
    """Convert a role, which must not be unspecified."""
    return next(role for role, each in _ROLES.items() if each == number)


def parse_profile(message: user_pb2.CreateUserRequest | user_pb2.User) -> Profile:
    """Convert the fields that users change, without checking them."""
    return Profile(
        email=message.email,
        display_name=message.display_name,
        addresses=tuple(
            Address(
                label=address.label,
                recipient=address.recipient,
                lines=tuple(address.lines),
                city=address.city,
                postal_code=address.postal_code,
                region_code=address.region_code,
            )
            for address in message.addresses
        ),
    )


def to_change(before: User | None, after: User | None) -> Change:
    """Convert a user who was made, changed or deleted, for the audit log."""
    (user_id,) = {user.user_id for user in (before, after) if user}
    return Change(
        f"users/{user_id}",
        None if before is None else to_message(before),
        None if after is None else to_message(after),
    )


def to_message(user: User) -> user_pb2.User:
    """Convert a user, whose version is the etag."""
    message = user_pb2.User()
    fill_message(message, user)
    return message


def fill_message(message: user_pb2.User, user: User) -> None:
    """Convert a user into an empty message, such as a new item of a list."""
    message.user_id = str(user.user_id)
    message.email = user.profile.email
    message.display_name = user.profile.display_name
    for address in user.profile.addresses:
        message.addresses.add(
            label=address.label,
            recipient=address.recipient,
            lines=address.lines,
            city=address.city,
            postal_code=address.postal_code,
            region_code=address.region_code,
        )
    message.role = _ROLES[user.role]
    message.email_verified = user.email_verified
    message.etag = str(user.version)
    message.create_time.CopyFrom(conversion.to_timestamp(user.create_time))
    message.update_time.CopyFrom(conversion.to_timestamp(user.update_time))


def to_tokens(issued: Tokens) -> user_pb2.SessionTokens:
    """Convert the tokens of a session."""
    return user_pb2.SessionTokens(
        access_token=issued.access_token,
        refresh_token=issued.refresh_token,
        expire_time=conversion.to_timestamp(issued.expire_time),
        session_expire_time=conversion.to_timestamp(issued.session_expire_time),
    )


def to_revocations(revocations: Sequence[Revocation]) -> user_pb2.WatchRevocationsResponse:
    """Convert revocations, in their order."""
    response = user_pb2.WatchRevocationsResponse()
    for each in revocations:
        response.revocations.add(
            session_id=str(each.session_id), revoke_time=conversion.to_timestamp(each.revoke_time)
        )
    return response
