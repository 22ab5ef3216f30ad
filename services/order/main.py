"""The order service as a program."""

from bazaar.order.v1 import order_pb2, order_pb2_grpc
from chassis.service import Resources, Service
from services.order.checkout import Checkout
from services.order.peers import Peers
from services.order.servicer import OrderServicer


def make_servicer(resources: Resources) -> OrderServicer:
    """Make the servicer, which calls the other three services."""
    channels = resources.channels
    peers = Peers(channels["UserService"], channels["ProductService"], channels["PaymentService"])
    checkout = Checkout(resources.database, peers)
    return OrderServicer(resources.database, checkout, resources.draining)


SERVICE = Service(
    order_pb2.DESCRIPTOR.services_by_name["OrderService"],
    order_pb2_grpc.add_OrderServiceServicer_to_server,
    make_servicer,
    database_name="orderdb",
    peers=("UserService", "ProductService", "PaymentService"),
)


if __name__ == "__main__":
    SERVICE.run()
