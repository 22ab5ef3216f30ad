"""The user service as a program."""

from bazaar.user.v1 import user_pb2, user_pb2_grpc
from chassis.service import Service
from services.user.passwords import Passwords
from services.user.servicer import UserServicer

SERVICE = Service(
    user_pb2.DESCRIPTOR.services_by_name["UserService"],
    user_pb2_grpc.add_UserServiceServicer_to_server,
    lambda resources: UserServicer(resources.database, Passwords()),
    database_name="userdb",
)


if __name__ == "__main__":
    SERVICE.run()
