"""Conversion between the messages of the user service and its domain."""

from bazaar.user.v1 import user_pb2
from chassis import conversion
from services.user.domain import Address, Profile, User


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
    message.etag = str(user.version)
    message.create_time.CopyFrom(conversion.to_timestamp(user.create_time))
    message.update_time.CopyFrom(conversion.to_timestamp(user.update_time))
