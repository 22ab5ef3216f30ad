"""The protoc plugin of mypy-protobuf that writes the type stubs of messages (_pb2.pyi)."""

from mypy_protobuf.main import main

if __name__ == "__main__":
    main()
