"""The settings of the order service."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from chassis import settings
from chassis.service import ServiceSettings


def _to_prefix(text: str) -> str:
    if not text:
        raise ValueError("must not have an empty prefix: `*` matches every payment method")
    return "" if text == "*" else text


class OrderSettings(ServiceSettings):
    """Settings of the order service beside those of every service."""

    orderservice_manual_capture: Annotated[
        tuple[Annotated[str, AfterValidator(_to_prefix)], ...],
        NoDecode,
        BeforeValidator(settings.split),
    ] = ("paypal:",)
    """Prefixes of payment methods, separated by commas. For a method with one of them, the stock is
    reserved until it expires, and the payment is captured after its approval; for any other method
    the stock is pinned at once. Where PayPal is the default provider, its methods have no prefix:
    add them as clients send them, as in `paypal:,checkout`. `*` matches every method."""
