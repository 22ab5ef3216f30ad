"""Limits on how often clients, accounts and the callers of one RPC send requests.

Responses have the headers of draft-ietf-httpapi-ratelimit-headers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.http.accounts import Accounts
from gateway.http.client_address import network_of
from gateway.http.exchange import Exchange
from gateway.http.problems import Problem
from gateway.rates.quotas import Quota, Subject, digest
from gateway.rates.store import Counters, Usage


@dataclass(frozen=True, slots=True)
class RateLimiter:
    """Counts the requests of a gateway, and refuses those that exceed a quota."""

    counters: Counters
    accounts: Accounts
    client_quotas: Sequence[Quota] = ()
    """What each client address may do, whatever it asks for."""
    account_quotas: Sequence[Quota] = ()
    """What each account may do, from any address."""
    limits_methods: bool = True
    """Whether the quotas of methods apply."""

    async def admit(self, exchange: Exchange) -> None:
        """Count a request, before anything is known of it but its headers.

        Raises:
            Problem: the client or the account has made too many requests.
        """
        if self.client_quotas:
            client = digest("client", network_of(exchange.client))
            await self.count(exchange, Subject(self.client_quotas, client))
        if self.account_quotas and (account := await self.accounts.find(exchange)).is_verified:
            await self.count(
                exchange, Subject(self.account_quotas, digest("account", account.name))
            )

    async def admit_call(self, exchange: Exchange, subject: Subject) -> None:
        """Count the call of a method that has quotas of its own, unless those are off.

        Raises:
            Problem: the call exceeds one of them.
        """
        if self.limits_methods:
            await self.count(exchange, subject)

    async def count(self, exchange: Exchange, subject: Subject) -> None:
        """Count a request of somebody.

        Raises:
            Problem: it exceeds one of their quotas.
        """
        usages = await self.counters.hit(subject)
        exchange.rate_limits += [(use.quota.policy, _item(use)) for use in usages]
        exceeded = [use for use in usages if use.exceeded]
        if exceeded:
            raise _too_many(max(map(_seconds, exceeded)))


def _item(use: Usage) -> str:
    remaining = 0 if use.exceeded else use.remaining
    return f'"{use.quota.name}";r={remaining};t={_seconds(use)}'


def _seconds(use: Usage) -> int:
    return max(1, math.ceil(use.reset_seconds))


def _too_many(retry_seconds: int) -> Problem:
    return Problem(
        status=429,
        code="RESOURCE_EXHAUSTED",
        detail="There were too many requests. The same request may succeed later.",
        reason="RATE_LIMITED",
        headers={"Retry-After": str(retry_seconds)},
    )
