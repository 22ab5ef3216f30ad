"""The fake of Stripe as a program: ./bazelw run //tools/fakes/stripe -- --port 12111."""

import argparse

from tools.fakes import controls as common
from tools.fakes.serving import find_url, listen, serve
from tools.fakes.stripe import controls
from tools.fakes.stripe.app import API_KEY, WEBHOOK_SECRET, Fake, create_app


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="stripe",
        description="A server that keeps the documented rules of Stripe and moves no money.",
        epilog=f"{common.__doc__}\n{controls.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="a port of 127.0.0.1; 0 is any")
    parser.add_argument("--webhook-url", default="", help="where webhooks are sent")
    arguments = parser.parse_args()
    with listen(arguments.port) as listener:
        print(f"Stripe's fake listens at {find_url(listener)}", flush=True)
        print(f"secret key {API_KEY}, webhook secret {WEBHOOK_SECRET}", flush=True)
        serve(create_app(Fake(arguments.webhook_url)), listener)


if __name__ == "__main__":
    main()
