"""The product service as a program, which also sweeps expired reservations."""

from functools import partial

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis.service import Resources, Service
from chassis.supervision import BackgroundTask
from services.identity import issuer
from services.product.expiry import INTERVAL_SECONDS, sweep
from services.product.servicer import ProductServicer


def make_servicer(resources: Resources) -> ProductServicer:
    """Make the servicer, and the task that sweeps expired reservations."""
    work = partial(sweep, resources.database)
    resources.tasks.append(BackgroundTask("sweep_reservations", work, INTERVAL_SECONDS))
    return ProductServicer(resources.database)


SERVICE = Service(
    product_pb2.DESCRIPTOR.services_by_name["ProductService"],
    product_pb2_grpc.add_ProductServiceServicer_to_server,
    make_servicer,
    make_verifier=issuer.make_verifier,
    database_name="productdb",
    peers=(issuer.PEER,),
)


if __name__ == "__main__":
    SERVICE.run()
