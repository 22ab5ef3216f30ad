"""The product service as a program, which also sweeps expired reservations."""

from functools import partial

from bazaar.product.v1 import product_pb2, product_pb2_grpc
from chassis.service import Service
from chassis.supervision import BackgroundTask
from services.product.expiry import INTERVAL_SECONDS, sweep
from services.product.servicer import ProductServicer

SERVICE = Service(
    product_pb2.DESCRIPTOR.services_by_name["ProductService"],
    product_pb2_grpc.add_ProductServiceServicer_to_server,
    lambda resources: ProductServicer(resources.database),
    database_name="productdb",
    make_tasks=lambda resources: [
        BackgroundTask("sweep_reservations", partial(sweep, resources.database), INTERVAL_SECONDS)
    ],
)


if __name__ == "__main__":
    SERVICE.run()
