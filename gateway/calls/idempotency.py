"""Idempotency-Key: a POST that is repeated gets the response of the first one.

A record is claimed before the call and finished after it. Only final responses are stored;
otherwise the claim is released and the key is free again. Records alone do not make a request
idempotent, because a gateway can die between call and record: the key is forwarded to the service
too.
"""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import LiteralString

from chassis import call_context, errors, log, sweeping
from chassis.database import Connection, Database
from gateway.calls.responses import Response, problem_response
from gateway.http.problems import Problem, invalid_argument
from gateway.http.statuses import RESPONSE_TOO_LARGE

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotent-Replayed"
MAX_KEY_LENGTH = 255
LEASE_SECONDS = 2.5
"""How long a claim lasts unless its gateway renews it: one that has died does not."""
RENEW_SECONDS = 0.75
"""How often a gateway renews the claims of the requests that it is performing."""
WAIT_SECONDS = 3.0
"""How long a repeated request waits: so long that it takes over from a gateway that has died."""
POLL_SECONDS = 0.05
CLAIM_SECONDS = 2.0
"""How long claiming a key may take, unless the deadline is earlier."""
SETTLE_SECONDS = 0.5
"""How long finishing or releasing a claim may take at least, however near the deadline is."""
SWEEP_SECONDS = 60.0

FINAL_CODES = frozenset(
    {
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
    }
)
"""Failures that are recorded. After any other, except for RESPONSE_TOO_LARGE, the client is meant
to retry with the same key."""

_CLAIM: LiteralString = """
INSERT INTO idempotency_records AS record (record_id, request_hash, attempt, expire_time)
VALUES (%(record_id)s, %(request_hash)s, %(attempt)s,
        now() + make_interval(secs => %(lease_seconds)s))
ON CONFLICT (record_id) DO UPDATE
   SET request_hash = excluded.request_hash, attempt = excluded.attempt,
       create_time = now(), expire_time = excluded.expire_time,
       status = NULL, headers = NULL, body = NULL
 WHERE record.expire_time <= now()
"""
_READ: LiteralString = """
SELECT request_hash, status, headers, body
  FROM idempotency_records
 WHERE record_id = %s AND expire_time > now()
"""
_FINISH: LiteralString = """
UPDATE idempotency_records
   SET status = %(status)s, headers = %(headers)s, body = %(body)s,
       expire_time = now() + make_interval(secs => %(retention_seconds)s)
 WHERE attempt = %(attempt)s
"""
_RENEW: LiteralString = """
UPDATE idempotency_records
   SET expire_time = now() + make_interval(secs => %(lease_seconds)s)
 WHERE attempt = ANY(%(attempts)s) AND status IS NULL
"""
_RELEASE: LiteralString = "DELETE FROM idempotency_records WHERE attempt = %(attempt)s"


@dataclass(frozen=True, slots=True)
class Claim:
    """The identity of a request and its content, as SHA-256 digests."""

    record_id: bytes
    request_hash: bytes


def make_claim(method: str, path: str, account: str, key: str, request: bytes) -> Claim:
    """Return the claim of a request; `request` is its whole content, serialized deterministically.

    A key is scoped to method, path and account: nobody gets the response of another.
    """
    identity = json.dumps([method, path, account, key]).encode()
    return Claim(hashlib.sha256(identity).digest(), hashlib.sha256(request).digest())


def check_key(key: str) -> None:
    """Check an Idempotency-Key.

    Raises:
        Problem: it is empty, too long, or not printable ASCII, which is all that gRPC can carry.
    """
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        detail = f"{HEADER} must have 1 to {MAX_KEY_LENGTH} printable ASCII characters."
        raise invalid_argument(detail, "INVALID_IDEMPOTENCY_KEY")


class IdempotencyRecords:
    """The idempotency records of one database."""

    def __init__(self, database: Database, retention_seconds: float) -> None:
        """Store finished records for `retention_seconds`."""
        self._database = database
        self._retention_seconds = retention_seconds
        self._running: set[uuid.UUID] = set()
        """The attempts that are being performed."""
        self._log = log.logger()

    async def perform_once(
        self,
        claim: Claim,
        perform: Callable[[], Awaitable[Response]],
        *,
        keeps_failures: bool = True,
    ) -> Response:
        """Perform a request once, or repeat its recorded response.

        Without `keeps_failures`, one that has failed, and so changed nothing, is not recorded.

        A claim can be taken over after LEASE_SECONDS unless `renew` is called in time, which a
        gateway that has died does not.

        Raises:
            Problem: `perform` raised it; or the key belongs to another request (422), or to one
                that is still being performed after WAIT_SECONDS (409).
            errors.Unavailable: the database is down or frozen; nothing was performed.
            errors.DeadlineExceeded: the database is slow; nothing was performed.
        """
        attempt = await self._claim(claim)
        if isinstance(attempt, Response):
            return attempt
        self._running.add(attempt)
        try:
            return await self._perform(attempt, perform, keeps_failures)
        finally:
            self._running.discard(attempt)

    async def _perform(
        self, attempt: uuid.UUID, perform: Callable[[], Awaitable[Response]], keeps_failures: bool
    ) -> Response:
        try:
            response = await perform()
        except Problem as problem:
            is_final = keeps_failures and problem.code in FINAL_CODES
            if is_final or problem.reason == RESPONSE_TOO_LARGE:
                await self._finish(attempt, problem_response(problem))
            else:
                await self._settle(_RELEASE, {"attempt": attempt})
            raise
        except BaseException:
            await self._settle(_RELEASE, {"attempt": attempt})
            raise
        if response.status == HTTPStatus.ACCEPTED:
            # A repeated request may find it done.
            await self._settle(_RELEASE, {"attempt": attempt})
        else:
            await self._finish(attempt, response)
        return response

    async def renew(self) -> None:
        """Renew the claims of all requests that are being performed."""
        if self._running:
            parameters = {"attempts": list(self._running), "lease_seconds": LEASE_SECONDS}
            async with self._database.connection() as connection:
                await connection.execute(_RENEW, parameters)

    async def sweep(self) -> int:
        """Delete all expired records; return how many there were."""
        return await sweeping.sweep(self._database, "idempotency_records", "expire_time <= now()")

    async def _claim(self, claim: Claim) -> uuid.UUID | Response:
        limit = time.monotonic() + WAIT_SECONDS
        while True:
            found = await self._claim_or_read(claim)
            if found is not None:
                return found
            if time.monotonic() > limit:
                detail = f"A request with this {HEADER} is still running."
                headers = {"Retry-After": "1"}
                raise Problem(409, "ABORTED", detail, "IDEMPOTENCY_KEY_IN_USE", headers=headers)
            await asyncio.sleep(POLL_SECONDS)

    async def _claim_or_read(self, claim: Claim) -> uuid.UUID | Response | None:
        attempt = uuid.uuid4()
        parameters = {
            "record_id": claim.record_id,
            "request_hash": claim.request_hash,
            "attempt": attempt,
            "lease_seconds": LEASE_SECONDS,
        }
        with call_context.time_limit(call_context.remaining_seconds(CLAIM_SECONDS)):
            async with self._database.connection() as connection:
                claimed = await connection.execute(_CLAIM, parameters)
                return attempt if claimed.rowcount else await _read(connection, claim)

    async def _finish(self, attempt: uuid.UUID, response: Response) -> None:
        await self._settle(
            _FINISH,
            {
                "attempt": attempt,
                "status": response.status,
                "headers": json.dumps(dict(response.headers)),
                "body": response.body,
                "retention_seconds": self._retention_seconds,
            },
        )

    async def _settle(self, statement: LiteralString, parameters: Mapping[str, object]) -> None:
        """Finish or release a claim; a failure is only logged, as the call is over."""
        seconds = max(SETTLE_SECONDS, call_context.remaining_seconds(CLAIM_SECONDS))
        try:
            with call_context.time_limit(seconds):
                async with self._database.connection() as connection:
                    await connection.execute(statement, parameters)
        except errors.Error as error:
            self._log.warning("idempotency_record_lost", reason=error.reason)


async def _read(connection: Connection, claim: Claim) -> Response | None:
    """Return the recorded response, or None while there is none.

    Raises:
        Problem: the key belongs to another request.
    """
    row = await (await connection.execute(_READ, (claim.record_id,))).fetchone()
    if row is None:
        return None
    request_hash, status, headers, body = row
    if request_hash != claim.request_hash:
        detail = f"This {HEADER} was used for another request."
        raise invalid_argument(detail, "IDEMPOTENCY_KEY_REUSED", status=422)
    if status is None:
        return None
    return Response(status, body, {**headers, REPLAYED_HEADER: "true"})
