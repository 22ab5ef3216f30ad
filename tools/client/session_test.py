"""When a session logs in, when it refreshes, and that it uses no refresh token twice."""

import datetime as dt
import json

import pytest

from tools.client.session import RENEWAL, Exchange, LoginError, Session

LIFETIME = dt.timedelta(minutes=10)
LOGIN = Exchange("/v1/sessions:login", {"email": "ada@example.com", "password": "correct horse"})


def refresh(token: str) -> Exchange:
    return Exchange("/v1/sessions/current:refresh", {"refreshToken": token})


def tokens(name: str, lifetime: dt.timedelta = LIFETIME) -> str:
    """Return the response to an exchange: tokens that are called `access NAME` and so on."""
    expire_time = dt.datetime.now(dt.UTC) + lifetime
    return json.dumps(
        {
            "accessToken": f"access {name}",
            "refreshToken": f"refresh {name}",
            "expireTime": expire_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    )


def exchange(session: Session, response: str = "{}", status: int = 200) -> Exchange:
    begun = session.begin_exchange()
    session.finish_exchange(begun, status, response)
    return begun


@pytest.fixture
def session() -> Session:
    return Session("ada@example.com", "correct horse")


def test_a_session_begins_with_a_login(session: Session) -> None:
    assert session.access_token is None
    assert exchange(session, tokens("1")) == LOGIN
    assert session.access_token == "access 1"


def test_a_token_is_replaced_before_it_expires(session: Session) -> None:
    exchange(session, tokens("1", RENEWAL - dt.timedelta(seconds=1)))
    assert session.access_token is None
    assert exchange(session, tokens("2")) == refresh("refresh 1")
    assert session.access_token == "access 2"


def test_an_exchange_whose_outcome_is_unknown_is_followed_by_a_login(session: Session) -> None:
    exchange(session, tokens("1"))
    assert session.begin_exchange() == refresh("refresh 1")
    assert exchange(session, tokens("2")) == LOGIN


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_refresh_that_is_refused_is_followed_by_a_login(session: Session, status: int) -> None:
    exchange(session, tokens("1"))
    assert exchange(session, status=status) == refresh("refresh 1")
    assert exchange(session, tokens("2")) == LOGIN


def test_a_login_that_is_refused_raises_and_keeps_nothing(session: Session) -> None:
    with pytest.raises(LoginError, match="INVALID_CREDENTIALS"):
        exchange(session, '{"reason": "INVALID_CREDENTIALS"}', status=401)
    assert session.access_token is None
