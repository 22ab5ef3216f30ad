"""The fake of PayPal as a program: ./bazelw run //tools/fakes/paypal -- --port 8086."""

import argparse

from tools.fakes import controls as common
from tools.fakes.paypal import controls
from tools.fakes.paypal.app import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, Fake, create_app
from tools.fakes.serving import find_url, listen, serve


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="paypal",
        description="A server that keeps the documented rules of PayPal and moves no money.",
        epilog=f"{common.__doc__}\n{controls.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="a port of 127.0.0.1; 0 is any")
    parser.add_argument("--webhook-url", default="", help="where webhooks are sent")
    arguments = parser.parse_args()
    with listen(arguments.port) as listener:
        print(f"PayPal's fake listens at {find_url(listener)}", flush=True)
        print(f"client id {CLIENT_ID}, client secret {CLIENT_SECRET}", flush=True)
        print(f"webhook id {WEBHOOK_ID}", flush=True)
        serve(create_app(Fake(arguments.webhook_url)), listener)


if __name__ == "__main__":
    main()
