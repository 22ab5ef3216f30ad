"""Rules of users."""

import datetime as dt
import uuid
from dataclasses import replace

import pytest

from chassis import errors
from chassis.caller import Role
from services.user import domain

ADDRESS = domain.Address("home", "Ada Lovelace", ("12 St James's Square",), "London", "SW1Y", "GB")
PROFILE = domain.Profile("ada@example.com", "Ada", (ADDRESS,))
MOMENT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
USER = domain.User(uuid.UUID(int=1), PROFILE, Role.CUSTOMER, True, 3, MOMENT, MOMENT)


@pytest.mark.parametrize(
    "email",
    [
        *(
            "",
            "ada",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            "a" * 250 + "@b.de",
            "x" * 100_000 + "@b.de",
        ),
        *("a@b", "a@c..d", ".a@b.de", "a.@b.de", "a@-b.de", "a@localhost", "a@[127.0.0.1]"),
        *("a\u200bb@c.de", "a\x1b@c.de", "a@c.de\n", '"a b"@c.de', "a@xn--.de"),
    ],
)
def test_check_profile_rejects_an_invalid_email_address(email: str) -> None:
    with pytest.raises(errors.Unprocessable) as raised:
        domain.check_profile(replace(PROFILE, email=email))
    assert [violation.field for violation in raised.value.violations] == ["email"]


@pytest.mark.parametrize(
    "email", ["a@b.co", "ada+shop@example.com", "zoë@münchen.example", "a" * 64 + "@b.de"]
)
def test_check_profile_accepts_a_valid_email_address(email: str) -> None:
    assert domain.check_profile(replace(PROFILE, email=email)).email == email


def test_check_profile_rejects_card_numbers() -> None:
    card = "4242 4242 4242 4242"
    address = domain.Address(card, card, (card,), card, "4242424242424242", "GB")
    with pytest.raises(errors.Unprocessable) as raised:
        domain.check_profile(domain.Profile("ada@example.com", card, (address,)))
    assert [violation.field for violation in raised.value.violations] == [
        "display_name",
        "addresses[0].label",
        "addresses[0].recipient",
        "addresses[0].lines[0]",
        "addresses[0].city",
        "addresses[0].postal_code",
    ]


def test_check_profile_names_every_invalid_field() -> None:
    bad = domain.Address("", "", ("",) * 2, "x" * 201, "", "gb")
    with pytest.raises(errors.Unprocessable) as raised:
        domain.check_profile(domain.Profile("nobody", "", (ADDRESS, bad)))
    assert [violation.field for violation in raised.value.violations] == [
        "email",
        "display_name",
        "addresses[1].lines[0]",
        "addresses[1].lines[1]",
        "addresses[1].city",
        "addresses[1].region_code",
    ]


def test_check_profile_rejects_nul() -> None:
    with pytest.raises(errors.Unprocessable, match="must not contain control"):
        domain.check_profile(replace(PROFILE, display_name="A\x00da"))


@pytest.mark.parametrize("etag", ["", "3"])
def test_check_etag_accepts_the_current_one_and_none(etag: str) -> None:
    domain.check_etag(USER, etag)


def test_check_etag_rejects_a_stale_etag() -> None:
    with pytest.raises(errors.Aborted):
        domain.check_etag(USER, "2")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("Ada@EXAMPLE.com", "Ada@example.com"),
        ("ada@xn--mnchen-3ya.de", "ada@m\u00fcnchen.de"),
        ("ada@mu\u0308nchen.de", "ada@m\u00fcnchen.de"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
    ],
)
def test_check_profile_normalizes_the_email_address(written: str, kept: str) -> None:
    assert domain.check_profile(replace(PROFILE, email=written)).email == kept


@pytest.mark.parametrize(
    "name", [" ", "\u3000", "\u200d", "\u200b", "A\x1bda", "A\u202eda", "A\nda"]
)
def test_check_profile_rejects_an_unreadable_name(name: str) -> None:
    address = replace(ADDRESS, lines=(name,))
    with pytest.raises(errors.Unprocessable) as raised:
        domain.check_profile(replace(PROFILE, display_name=name, addresses=(address,)))
    assert [violation.field for violation in raised.value.violations] == [
        "display_name",
        "addresses[0].lines[0]",
    ]


def test_check_profile_normalizes_text() -> None:
    written = replace(ADDRESS, city=" Ko\u0308ln ")
    kept = domain.check_profile(domain.Profile("a@b.de", " Zoe\u0308", (written,)))
    assert kept.display_name == "Zo\u00eb"
    assert kept.addresses == (replace(ADDRESS, city="K\u00f6ln"),)
