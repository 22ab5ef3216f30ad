"""The settings of the order service."""

from typing import Annotated

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from chassis import settings
from chassis.service import ServiceSettings


class OrderSettings(ServiceSettings):
    """Settings of the order service beside those of every service."""

    orderservice_manual_capture: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(settings.split)
    ] = ("paypal:",)
    """How payment methods begin, separated by commas, for which stock is reserved until it expires
    and the payment is captured after its approval; for others stock is pinned at once. Where PayPal
    is the default provider, its methods have no prefix: add them as clients send them, as in
    `paypal:,checkout`. The empty prefix in `,` is that of every method."""
