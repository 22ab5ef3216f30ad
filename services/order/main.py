"""The order service as a program."""

from typing import cast

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis.service import Resources, Service
from chassis.supervision import BackgroundTask
from services.identity import issuer
from services.order.checkout import Checkout
from services.order.event import Cause
from services.order.event_log import EventLog
from services.order.peers import Peers
from services.order.refunds import Refunds
from services.order.servicer import OrderServicer
from services.order.settings import OrderSettings
from services.order.worker import ALARM_SECONDS, INTERVAL_SECONDS, Worker


def make_servicer(resources: Resources) -> OrderServicer:
    """Make the servicer, which calls the other three services, and the tasks beside it."""
    database, channels = resources.database, resources.channels
    peers = Peers(channels["UserService"], channels["ProductService"], channels["PaymentService"])
    event_log = EventLog(database, resources.draining)
    worker = Worker(
        database,
        Checkout(database, peers, event_log, Cause.WORKER),
        Refunds(database, peers, event_log, Cause.WORKER),
    )
    recovery = BackgroundTask("order_worker", worker.run, INTERVAL_SECONDS)
    alarm = BackgroundTask("stuck_orders", worker.report_stuck, ALARM_SECONDS)
    resources.tasks.extend([*event_log.tasks(), recovery, alarm])
    checkout = Checkout(database, peers, event_log)
    refunds = Refunds(database, peers, event_log)
    config = cast(OrderSettings, resources.settings)
    return OrderServicer(
        database,
        checkout,
        refunds,
        event_log,
        resources.draining,
        config.orderservice_manual_capture,
    )


SERVICE = Service(
    order_pb2.DESCRIPTOR.services_by_name["OrderService"],
    order_pb2_grpc.add_OrderServiceServicer_to_server,
    make_servicer,
    make_verifier=issuer.make_verifier,
    database_name="orderdb",
    peers=("UserService", "ProductService", "PaymentService"),
    settings_class=OrderSettings,
)


if __name__ == "__main__":
    SERVICE.run()
