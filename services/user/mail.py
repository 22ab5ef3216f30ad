"""The mails to users: what they say. No I/O.

No mail has a name or anything else that a stranger may have typed into a form: it would be sent to
whomever the stranger names.
"""

import datetime as dt
import enum
from dataclasses import dataclass


class Template(enum.StrEnum):
    """What a mail is about, as it stands in the database."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - No password.
    ALREADY_REGISTERED = "already_registered"
    EMAIL_CHANGED = "email_changed"


class Purpose(enum.StrEnum):
    """What the token of a mail is for."""

    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - No password.


LIFETIMES = {
    Purpose.VERIFY_EMAIL: dt.timedelta(days=1),
    Purpose.RESET_PASSWORD: dt.timedelta(minutes=30),
}
"""How long the token of a mail is valid."""


@dataclass(frozen=True, slots=True)
class Text:
    """The subject and the body of a mail."""

    subject: str
    body: str


def verify_email(link_url: str, token: str) -> Text:
    """Ask whoever reads the mail to verify the address."""
    return Text(
        "Please verify your e-mail address",
        "Hello,\n"
        "\n"
        "this e-mail address was given for an account in our shop. If you gave it, please verify\n"
        "it within a day by opening this link:\n"
        "\n"
        f"{link_url}/verify-email#token={token}\n"
        "\n"
        "If you did not, please ignore this mail, and do not open the link.\n",
    )


def address_in_use() -> Text:
    """Tell a user that somebody, perhaps the same person, wanted to use the address again."""
    return Text(
        "Your e-mail address is in use already",
        "Hello,\n"
        "\n"
        "somebody wanted to use this e-mail address for another account in our shop. It belongs\n"
        "to your account, and nothing has changed.\n"
        "\n"
        "If it was you, please change the address of your other account first, or delete that\n"
        "account. If it was not you, you need not do anything.\n",
    )


def reset_password(link_url: str, token: str) -> Text:
    """Tell a user how to set a new password."""
    return Text(
        "Set a new password",
        "Hello,\n"
        "\n"
        "somebody asked for a new password for your account in our shop. If it was you, please\n"
        "set one within 30 minutes by opening this link:\n"
        "\n"
        f"{link_url}/reset-password#token={token}\n"
        "\n"
        "If it was not you, please ignore this mail. Your password has not changed.\n",
    )


def already_registered(link_url: str, token: str) -> Text:
    """Tell a user that there is an account already, and how to set a new password."""
    return Text(
        "You have an account already",
        "Hello,\n"
        "\n"
        "somebody wanted to register in our shop with this e-mail address. You have an account\n"
        "with it already, and nothing has changed.\n"
        "\n"
        "If it was you, please log in. If you have forgotten your password, you can set a new one\n"
        "within 30 minutes by opening this link:\n"
        "\n"
        f"{link_url}/reset-password#token={token}\n"
        "\n"
        "If it was not you, please ignore this mail.\n",
    )


def email_changed() -> Text:
    """Tell a user at the old address that there is a new one."""
    return Text(
        "Your e-mail address was changed",
        "Hello,\n"
        "\n"
        "the e-mail address of your account in our shop was changed: this one does not belong to\n"
        "it any more. If you did not change it, please contact us.\n",
    )
