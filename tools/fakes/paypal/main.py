"""The command line of the fake: `./bazelw run //tools/fakes/paypal -- --port 8086`."""

import argparse

from tools.fakes.paypal import app, control
from tools.fakes.serving import find_url, listen, serve


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="paypal",
        description="A server that keeps the documented rules of PayPal and moves no money.",
        epilog=control.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=0, help="a port of 127.0.0.1; 0 is any")
    parser.add_argument("--webhook-url", default="", help="where webhooks are sent")
    arguments = parser.parse_args()
    with listen(arguments.port) as listener:
        print(f"PayPal's fake listens at {find_url(listener)}", flush=True)
        print(f"client id {app.CLIENT_ID}, client secret {app.CLIENT_SECRET}", flush=True)
        print(f"webhook id {app.WEBHOOK_ID}", flush=True)
        serve(app.make_fake(arguments.webhook_url).app, listener)


if __name__ == "__main__":
    main()
