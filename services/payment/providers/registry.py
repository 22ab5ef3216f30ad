"""The payment providers that are switched on, and which of them a payment method belongs to."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from chassis import errors, log
from services.payment.providers.provider import Provider

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOG = log.logger()


class Providers:
    """Finds a provider by its name, with which payments are stored, or by a payment method.

    A payment method is `PROVIDER:TOKEN`, for example "paypal:checkout", or a token of the default
    provider, which is the first, for example "pm_card_visa".
    """

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = {provider.name: provider for provider in providers}
        self._default = next(iter(self._providers), "")

    def __iter__(self) -> Iterator[Provider]:
        """Return the providers in the order in which they were given."""
        return iter(self._providers.values())

    def find(self, name: str) -> Provider | None:
        """Return a provider by its name, or None if it is not switched on."""
        return self._providers.get(name)

    def find_for(self, payment_method: str) -> Provider | None:
        """Return the provider of a payment method, or None if it is not switched on."""
        name, colon, _ = payment_method.partition(":")
        return self.find(name if colon else self._default)

    def group(
        self, items: Iterable[Item], provider_of: Callable[[Item], str]
    ) -> dict[Provider, list[Item]]:
        """Group items by their providers, whose names `provider_of` returns.

        Items of a provider that is not switched on are left out and reported: they have to wait
        until it is.
        """
        found: dict[Provider, list[Item]] = defaultdict(list)
        left_out: Counter[str] = Counter()
        for item in items:
            name = provider_of(item)
            if (provider := self.find(name)) is not None:
                found[provider].append(item)
            else:
                left_out[name] += 1
        for name, count in left_out.items():
            _LOG.error("provider_not_switched_on", provider=name, waiting=count)
        return found

    async def close(self) -> None:
        """Close the connections to all providers."""
        for provider in self:
            await provider.close()


async def call_each(
    batches: Mapping[Provider, Sequence[Item]],
    call: Callable[[Provider, Sequence[Item]], Awaitable[Result]],
) -> dict[Provider, Result]:
    """Call all providers at once, each with its batch. One that is down has no result.

    What else a call raises is raised when all of them have ended.
    """
    calls = [call(provider, batch) for provider, batch in batches.items()]
    results: dict[Provider, Result] = {}
    failures: list[BaseException] = []
    for provider, result in zip(
        batches, await asyncio.gather(*calls, return_exceptions=True), strict=True
    ):
        if isinstance(result, errors.Unavailable):
            _LOG.warning("provider_unavailable", provider=provider.name, reason=result.reason)
        elif isinstance(result, BaseException):
            failures.append(result)
        else:
            results[provider] = result
    if failures:
        raise failures[0]
    return results


def token_of(payment_method: str) -> str:
    """Return a payment method without the name of its provider."""
    before, colon, after = payment_method.partition(":")
    return after if colon else before
