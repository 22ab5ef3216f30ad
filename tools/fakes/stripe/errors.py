"""Errors of Stripe's API: https://docs.stripe.com/api/errors and https://docs.stripe.com/error-codes."""

from collections.abc import Mapping


class StripeError(Exception):
    """An error response. It is saved under the idempotency key of its request."""

    is_saved = True

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        error_type: str = "invalid_request_error",
        **details: object,
    ) -> None:
        """`details` are `code`, `param`, `decline_code`, `payment_intent`."""
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": error_type, "message": message, **details}}


class NotExecutedError(StripeError):
    """An error of a request that was not executed, which is not saved.

    https://docs.stripe.com/api/idempotent_requests: "We save results only after the execution of an
    endpoint begins."
    """

    is_saved = False


def card_error(code: str, decline_code: str, intent: Mapping[str, object]) -> StripeError:
    """Return the error of a declined card, with its intent."""
    return StripeError(
        "Your card was declined.",
        status=402,
        error_type="card_error",
        code=code,
        decline_code=decline_code,
        payment_intent=intent,
    )


def unexpected_state(action: str, intent: Mapping[str, object]) -> StripeError:
    """Return the error of an action that the status of an intent does not allow."""
    return StripeError(
        f"You cannot {action} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=intent,
    )


def not_found(resource: str, identifier: str, param: str) -> StripeError:
    """Return the error of a missing object: 404 in a path, 400 in a parameter."""
    return StripeError(
        f"No such {resource}: '{identifier}'",
        status=404 if param == "intent" else 400,
        code="resource_missing",
        param=param,
    )


def missing(param: str) -> NotExecutedError:
    """Return the error of a parameter that is required."""
    return NotExecutedError(
        f"Missing required param: {param}.", code="parameter_missing", param=param
    )


def make_error(status: int) -> dict[str, object]:
    """Return the body of an error that is no fault of the request."""
    code = {409: {"code": "lock_timeout"}, 429: {"code": "rate_limit"}}.get(status, {})
    error_type = "api_error" if status == 500 else "invalid_request_error"
    return {"error": {"type": error_type, "message": f"The status is {status}.", **code}}
