"""Which tokens are valid, and for how long."""

import asyncio
import json
import uuid

import pytest

from chassis import call_context, errors, jwks, revocations
from chassis.caller import Caller, Role
from chassis.jwks import KeySet
from chassis.revocations import Revocations
from chassis.token_testing import KEY_ID, Forger, Issuer, make_jwk
from chassis.tokens import Verifier

USER = uuid.UUID(int=7)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


async def _refuse(verifier: Verifier, token: str) -> str:
    with pytest.raises(errors.Unauthenticated) as raised:
        await verifier.verify(token)
    return raised.value.reason


async def test_a_token_names_its_caller(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    session_id = uuid.uuid4()
    token = issuer.token(USER, Role.STAFF, session_id=session_id)
    first = await verifier.verify(token)
    assert first == Caller(USER, Role.STAFF, session_id, first.expire_time)
    assert first.is_staff
    assert await verifier.verify(token) is first


async def test_no_forged_token_is_valid(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    forged = Forger(issuer).forge()
    assert len(forged) >= 40
    reasons = {name: await _refuse(verifier, token) for name, token in forged.items()}
    expired = {name for name, reason in reasons.items() if reason != "TOKEN_INVALID"}
    assert expired == {"expired", "expired long ago", "an expiry that is true"}


async def test_a_token_that_was_valid_expires(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = issuer.verifier()
    token = issuer.token()
    caller = await verifier.verify(token)
    monkeypatch.setattr("chassis.tokens.time.time", lambda: caller.expire_time + 5)
    assert await _refuse(verifier, token) == "TOKEN_EXPIRED"


async def test_the_clocks_of_two_machines_may_differ_by_seconds(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    for age_seconds in (-4, 603):
        await verifier.verify(issuer.token(age_seconds=age_seconds))


async def test_a_token_ends_with_its_session(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    ended, other = uuid.uuid4(), uuid.uuid4()
    token = issuer.token(session_id=ended)
    await verifier.verify(token)
    issuer.revocations.revoke(ended)
    assert await _refuse(verifier, token) == "TOKEN_REVOKED"
    assert await _refuse(verifier, issuer.token(session_id=ended)) == "TOKEN_REVOKED"
    await verifier.verify(issuer.token(session_id=other))


async def test_no_token_is_valid_before_it_is_known_which_sessions_have_ended(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "LEARN_SECONDS", 0.01)
    verifier = issuer.verifier()
    issuer.revocations.known.clear()
    with pytest.raises(errors.Unavailable) as raised:
        await verifier.verify(issuer.token())
    assert raised.value.reason == "REVOCATIONS_UNKNOWN"


async def test_a_token_waits_until_it_is_known_which_sessions_have_ended(issuer: Issuer) -> None:
    verifier, session_id = issuer.verifier(), uuid.uuid4()
    issuer.revocations.known.clear()
    ended, other = (
        asyncio.create_task(verifier.verify(issuer.token(session_id=each)))
        for each in (session_id, uuid.uuid4())
    )
    await asyncio.wait([ended, other], timeout=0.01)
    issuer.revocations.revoke(session_id)
    issuer.revocations.known.set()
    with pytest.raises(errors.Unauthenticated):
        await ended
    await other


async def test_a_revocation_is_kept_as_long_as_tokens_live() -> None:
    brief = Revocations(retention_seconds=0)
    first, second = uuid.uuid4(), uuid.uuid4()
    brief.revoke(first)
    brief.revoke(second)
    assert not brief.is_revoked(first)
    assert brief.is_revoked(second)


async def test_tokens_of_a_withdrawn_key_are_not_valid(issuer: Issuer) -> None:
    published = [make_jwk(issuer.key, KEY_ID)]

    async def publish() -> bytes:
        return json.dumps({"keys": published}).encode()

    keys = KeySet(publish)
    verifier = Verifier(keys, issuer.revocations)
    token = issuer.token()
    await verifier.verify(token)
    published[:] = [make_jwk(Issuer().key, "next")]
    await keys.refresh()
    assert await _refuse(verifier, token) == "TOKEN_INVALID"


async def test_a_bounded_number_of_tokens_is_remembered(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.tokens._MAX_CACHED", 2)
    verifier = issuer.verifier()
    kept = []
    for _ in range(3):
        token = issuer.token()
        kept.append((token, await verifier.verify(token)))
    remembered = [await verifier.verify(token) is caller for token, caller in reversed(kept)]
    assert remembered == [True, True, False]


class Fetches:
    """An issuer that may be down, and counts how often its keys are fetched."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.count = 0
        self.deadlines: list[float | None] = []
        self.is_down = False

    async def fetch(self) -> bytes:
        self.count += 1
        self.deadlines.append(call_context.deadline.get())
        await asyncio.sleep(0)
        if self.is_down:
            raise errors.Unavailable("PEER_UNAVAILABLE", "down")
        return await self._issuer.publish()


@pytest.fixture
def fetches(issuer: Issuer) -> Fetches:
    return Fetches(issuer)


async def test_unknown_keys_are_looked_up_once_in_a_while(issuer: Issuer, fetches: Fetches) -> None:
    verifier = Verifier(KeySet(fetches.fetch), issuer.revocations)
    unknown = Forger(issuer).forge()["an unknown key"]
    attempts = (_refuse(verifier, unknown) for _ in range(100))
    assert set(await asyncio.gather(*attempts)) == {"TOKEN_INVALID"}
    assert fetches.count == 1
    await verifier.verify(issuer.token())


async def test_a_search_does_not_end_with_the_call_that_began_it(
    issuer: Issuer, fetches: Fetches
) -> None:
    verifier = Verifier(KeySet(fetches.fetch), issuer.revocations)
    with call_context.time_limit(0):
        first = asyncio.create_task(verifier.verify(issuer.token()))
    await asyncio.sleep(0)
    second = asyncio.create_task(verifier.verify(issuer.token()))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert fetches.count == 1
    assert fetches.deadlines == [None]


async def test_the_last_known_keys_outlast_their_issuer(issuer: Issuer, fetches: Fetches) -> None:
    keys = KeySet(fetches.fetch)
    verifier = Verifier(keys, issuer.revocations)
    await verifier.verify(issuer.token())
    fetches.is_down = True
    with pytest.raises(errors.Unavailable):
        await keys.refresh()
    await verifier.verify(issuer.token())


async def test_without_any_keys_the_outcome_is_unknown(issuer: Issuer, fetches: Fetches) -> None:
    fetches.is_down = True
    verifier = Verifier(KeySet(fetches.fetch), issuer.revocations)
    for _ in range(2):
        with pytest.raises(errors.Unavailable) as raised:
            await verifier.verify(issuer.token())
        assert raised.value.reason == "KEYS_UNAVAILABLE"
    assert fetches.count == 1


async def test_an_issuer_that_is_back_is_asked_again(
    issuer: Issuer, fetches: Fetches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "RETRY_SECONDS", 0)
    fetches.is_down = True
    verifier = Verifier(KeySet(fetches.fetch), issuer.revocations)
    with pytest.raises(errors.Unavailable):
        await verifier.verify(issuer.token())
    fetches.is_down = False
    await verifier.verify(issuer.token())


async def test_an_issuer_that_does_not_respond_is_not_waited_for(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.01)

    async def hang() -> bytes:
        await asyncio.Event().wait()
        return b""

    verifier = Verifier(KeySet(hang), issuer.revocations)
    async with asyncio.timeout(10):
        with pytest.raises(errors.Unavailable):
            await verifier.verify(issuer.token())


@pytest.mark.parametrize("document", [b"", b"\xff", b"[]", b"{}", b'{"keys": [{}]}'])
async def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    async def fetch() -> bytes:
        return document

    with pytest.raises(errors.Unavailable):
        await KeySet(fetch).refresh()
