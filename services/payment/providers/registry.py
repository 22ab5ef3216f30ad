"""The payment providers that are switched on, and which of them a payment method belongs to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
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

    def find(self, name: str) -> Provider | None:
        """Return a provider by its name, or None if it is not switched on."""
        return self._providers.get(name)

    def find_for(self, payment_method: str) -> Provider | None:
        """Return the provider of a payment method, or None if it is not switched on."""
        name, colon, _ = payment_method.partition(":")
        return self.find(name if colon else self._default)

    def get(self, name: str) -> Provider:
        """Return a provider by its name.

        Raises:
            errors.Error: it is not switched on. Its payments wait until it is.
        """
        if name not in self._providers:
            message = f"The payment provider {name!r} is not switched on."
            raise errors.Error("PROVIDER_OFF", message)
        return self._providers[name]

    async def close(self) -> None:
        """Close the connections to all providers."""
        for provider in self._providers.values():
            await provider.close()


async def call_each(
    batches: Mapping[Provider, Sequence[Item]],
    call: Callable[[Provider, Sequence[Item]], Awaitable[Result]],
) -> dict[Provider, Result]:
    """Call each provider with its batch. One that is down has no result, and stops no other."""
    results: dict[Provider, Result] = {}
    for provider, batch in batches.items():
        try:
            results[provider] = await call(provider, batch)
        except errors.Unavailable as error:
            _LOG.warning("provider_unavailable", provider=provider.name, reason=error.reason)
    return results


def token_of(payment_method: str) -> str:
    """Return a payment method without the name of its provider."""
    before, colon, after = payment_method.partition(":")
    return after if colon else before
