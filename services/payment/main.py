"""The payment service as a program."""

from functools import partial
from typing import cast

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis.database import Database
from chassis.service import Resources, Service
from chassis.supervision import BackgroundTask
from services.identity import issuer
from services.payment import releases, webhooks
from services.payment.providers.paypal import PayPalProvider
from services.payment.providers.provider import Provider
from services.payment.providers.registry import Providers
from services.payment.providers.sandbox import SandboxProvider
from services.payment.servicer import PaymentServicer
from services.payment.settings import PaymentSettings


def make_servicer(resources: Resources) -> PaymentServicer:
    """Make the servicer, with the providers that are switched on."""
    config = cast(PaymentSettings, resources.settings)
    providers = Providers(
        [
            open_provider(name, config, resources.database)
            for name in config.paymentservice_providers
        ]
    )
    resources.stack.push_async_callback(providers.close)
    resources.tasks.extend(releases.make_tasks(resources.database, providers))
    sweep = partial(webhooks.sweep, resources.database)
    resources.tasks.append(BackgroundTask("webhook_sweep", sweep, webhooks.SWEEP_SECONDS))
    return PaymentServicer(resources.database, providers)


def open_provider(name: str, config: PaymentSettings, database: Database) -> Provider:
    """Make a provider by its name."""
    match name:
        case "sandbox":
            return SandboxProvider(database)
        case "stripe":
            # Imported only where it is on, because Stripe's library takes 30 MiB of memory.
            from services.payment.providers.stripe import StripeProvider  # noqa: PLC0415

            return StripeProvider(
                config.paymentservice_stripe_api_url,
                config.paymentservice_stripe_api_key.get_secret_value(),
                config.paymentservice_stripe_webhook_secret.get_secret_value(),
                config.paymentservice_return_url,
            )
        case "paypal":
            return PayPalProvider(
                config.paymentservice_paypal_api_url,
                config.paymentservice_paypal_client_id,
                config.paymentservice_paypal_client_secret,
                webhook_id=config.paymentservice_paypal_webhook_id,
                return_url=config.paymentservice_return_url,
            )
    raise NotImplementedError(name)


SERVICE = Service(
    payment_pb2.DESCRIPTOR.services_by_name["PaymentService"],
    payment_pb2_grpc.add_PaymentServiceServicer_to_server,
    make_servicer,
    make_verifier=issuer.make_verifier,
    database_name="paymentdb",
    peers=(issuer.PEER,),
    settings_class=PaymentSettings,
)


if __name__ == "__main__":
    SERVICE.run()
