"""The order service as a program."""

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis.service import Resources, Service
from chassis.supervision import BackgroundTask
from services.order.checkout import Checkout
from services.order.domain import Cause
from services.order.peers import Peers
from services.order.servicer import OrderServicer
from services.order.worker import INTERVAL_SECONDS, Worker


def make_servicer(resources: Resources) -> OrderServicer:
    """Make the servicer, which calls the other three services."""
    checkout = Checkout(resources.database, _make_peers(resources), Cause.CLIENT)
    return OrderServicer(resources.database, checkout, resources.draining)


def make_tasks(resources: Resources) -> list[BackgroundTask]:
    """Make the worker, which has a pass over the orders that are due every second."""
    checkout = Checkout(resources.database, _make_peers(resources), Cause.WORKER)
    worker = Worker(resources.database, checkout)
    return [BackgroundTask("order_worker", worker.run, INTERVAL_SECONDS)]


def _make_peers(resources: Resources) -> Peers:
    channels = resources.channels
    return Peers(channels["UserService"], channels["ProductService"], channels["PaymentService"])


SERVICE = Service(
    order_pb2.DESCRIPTOR.services_by_name["OrderService"],
    order_pb2_grpc.add_OrderServiceServicer_to_server,
    make_servicer,
    make_tasks=make_tasks,
    database_name="orderdb",
    peers=("UserService", "ProductService", "PaymentService"),
)


if __name__ == "__main__":
    SERVICE.run()
