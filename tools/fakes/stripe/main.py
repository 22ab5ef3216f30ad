"""The fake of Stripe as a program: ./bazelw run //tools/fakes/stripe -- --port 12111."""

import argparse

from tools.fakes.serving import find_url, listen, serve
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET, Fake, create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="stripe",
        description="A fake of Stripe on loopback. It keeps the rules of PaymentIntents, refunds,"
        " idempotency keys and webhooks that Stripe documents, and all state in memory.",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="where to listen (default: a free port)"
    )
    parser.add_argument("--api-key", default=API_KEY, help="the secret key (default: %(default)s)")
    parser.add_argument("--webhook-url", default="", help="where to send events (default: nowhere)")
    parser.add_argument(
        "--webhook-secret",
        default=WEBHOOK_SECRET,
        help="the secret that events are signed with (default: %(default)s)",
    )
    arguments = parser.parse_args()
    fake = Fake(
        api_key=arguments.api_key,
        webhook_secret=arguments.webhook_secret,
        webhook_url=arguments.webhook_url,
    )
    with listen(arguments.port) as listener:
        print(f"Stripe's fake listens at {find_url(listener)}", flush=True)
        serve(create_app(fake), listener)


if __name__ == "__main__":
    main()
