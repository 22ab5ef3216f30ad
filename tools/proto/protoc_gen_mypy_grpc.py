"""The protoc plugin of mypy-protobuf that writes the type stubs of services (_pb2_grpc.pyi)."""

from mypy_protobuf.main import grpc

if __name__ == "__main__":
    grpc()
