"""The fakes of payment providers, on which the shop can run in place of the sandbox."""

import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.dev.program import Program
from tools.dev.readiness import HttpReadiness
from tools.dev.shop import RUNFILES, ShopSettings
from tools.fakes.paypal import app as paypal
from tools.fakes.stripe import app as stripe
from tools.postgres.tether import tether

_SETTINGS: Mapping[str, Callable[[str], Mapping[str, str]]] = {
    "stripe": lambda url: {
        "PAYMENTSERVICE_STRIPE_API_URL": url,
        "PAYMENTSERVICE_STRIPE_API_KEY": stripe.API_KEY,
        "PAYMENTSERVICE_STRIPE_WEBHOOK_SECRET": stripe.WEBHOOK_SECRET,
    },
    "paypal": lambda url: {
        "PAYMENTSERVICE_PAYPAL_API_URL": url,
        "PAYMENTSERVICE_PAYPAL_CLIENT_ID": paypal.CLIENT_ID,
        "PAYMENTSERVICE_PAYPAL_CLIENT_SECRET": paypal.CLIENT_SECRET,
        "PAYMENTSERVICE_PAYPAL_WEBHOOK_ID": paypal.WEBHOOK_ID,
    },
}
PROVIDERS = tuple(_SETTINGS)
"""The providers that have a fake."""


def describe_fake(config: ShopSettings, directory: Path, provider: str) -> Program:
    """Return the fake of one of PROVIDERS, which sends webhooks to the gateway."""
    endpoint = config.fake_endpoint()
    path = RUNFILES / "tools" / "fakes" / provider / provider
    webhook_url = f"http://{config.gateway_endpoint().address}/v1/payments/webhooks/{provider}"
    ready = HttpReadiness(f"http://{endpoint.address}/_fake/faults")

    async def wait_until_ready(_process_id: int) -> None:
        await ready.wait()

    return Program(
        provider,
        tether(
            [str(path), "--port", str(endpoint.port), "--webhook-url", webhook_url],
            signal.SIGTERM,
        ),
        directory / "logs" / f"{provider}.log",
        wait_until_ready,
        address=endpoint.address,
        explain=ready.explain,
    )


def payment_settings(config: ShopSettings, provider: str) -> Mapping[str, str]:
    """Return settings with which the payment service uses a fake, and the sandbox by name."""
    url = f"http://{config.fake_endpoint().address}"
    return {"PAYMENTSERVICE_PROVIDERS": f"{provider},sandbox", **_SETTINGS[provider](url)}
