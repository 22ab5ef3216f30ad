"""The payment service as a program."""

from bazaar.payment.v1 import payment_pb2, payment_pb2_grpc
from chassis.service import Service
from services.payment.providers.sandbox import SandboxProvider
from services.payment.servicer import PaymentServicer

SERVICE = Service(
    payment_pb2.DESCRIPTOR.services_by_name["PaymentService"],
    payment_pb2_grpc.add_PaymentServiceServicer_to_server,
    lambda resources: PaymentServicer(resources.database, SandboxProvider(resources.database)),
    database_name="paymentdb",
)


if __name__ == "__main__":
    SERVICE.run()
