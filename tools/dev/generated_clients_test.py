"""Clients that nobody wrote place orders: one from the OpenAPI document, one by gRPC reflection."""

import importlib
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tools.dev.testing import (
    ADMIN_EMAIL,
    ADMIN_PASSWORD,
    ShopProcess,
    make_credentials,
    open_environment,
)

PACKAGE = "shop_client"
# The generator knows no NDJSON; a stream of orders is bytes to it.
CONFIGURATION = """\
post_hooks: []
content_type_overrides:
  application/x-ndjson: application/octet-stream
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[Mapping[str, str]]:
    """Run the shop; yield where its programs listen."""
    with open_environment() as environment, ShopProcess(environment) as shop:
        shop.wait_until_ready()
        yield environment


@dataclass(frozen=True)
class OpenApiClient:
    """The client that a generator made of the gateway's document."""

    client: Any
    models: Any
    package: Any

    @contextmanager
    def log_in(self, email: str, password: str) -> Iterator["OpenApiClient"]:
        """Yield a client with the access token of a login."""
        body = self.models.LoginRequest(email=email, password=password)
        tokens = self.call("user_service", "login", body=body)
        url = self.client.get_httpx_client().base_url
        make_client = self.package.AuthenticatedClient
        with make_client(base_url=str(url), token=tokens.access_token) as client:
            yield OpenApiClient(client, self.models, self.package)

    def call(self, service: str, operation: str, **arguments: object) -> Any:
        """Call an operation by the function that stands for it."""
        name = f"{PACKAGE}.api.{service}.{service}_{operation}"
        return importlib.import_module(name).sync(client=self.client, **arguments)


@pytest.fixture(scope="module")
def anybody(
    environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenApiClient]:
    url = f"http://127.0.0.1:{environment['APIGATEWAY_PORT']}"
    directory = tmp_path_factory.mktemp("generated")
    generate(f"{url}/openapi.json", directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        package = importlib.import_module(PACKAGE)
        models = importlib.import_module(f"{PACKAGE}.models")
        with package.Client(base_url=url) as client:
            yield OpenApiClient(client, models, package)


def generate(url: str, directory: Path) -> None:
    configuration = directory / "configuration.yaml"
    configuration.write_text(CONFIGURATION)
    options = ("--meta=none", "--fail-on-warning", f"--output-path={directory / PACKAGE}")
    command = ("openapi_python_client", "generate", f"--url={url}", f"--config={configuration}")
    done = subprocess.run(
        [sys.executable, "-m", *command, *options],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def admin(anybody: OpenApiClient) -> Iterator[OpenApiClient]:
    with anybody.log_in(ADMIN_EMAIL, ADMIN_PASSWORD) as client:
        yield client


@pytest.fixture
def customer(anybody: OpenApiClient) -> Iterator[OpenApiClient]:
    """A customer who has just registered."""
    email, password = f"{uuid.uuid4().hex}@example.com", "correct horse"
    body = anybody.models.RegisterRequest(email=email, password=password, display_name="Ada")
    anybody.call("user_service", "register", body=body)
    with anybody.log_in(email, password) as client:
        yield client


class ReflectedService:
    """A service as its server describes it."""

    def __init__(self, environment: Mapping[str, str], name: str) -> None:
        simple_name = name.rpartition(".")[2]
        port = environment[f"{simple_name.upper()}_PORT"]
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", make_credentials(environment))
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self._channel))
        self._service = pool.FindServiceByName(name)

    def call(self, method_name: str, request: dict[str, Any], token: str = "") -> dict[str, Any]:
        """Call a method; request and response are JSON objects with the names of the proto."""
        method = self._service.methods_by_name[method_name]
        message = message_factory.GetMessageClass(method.input_type)()
        response_class = message_factory.GetMessageClass(method.output_type)
        call = self._channel.unary_unary(
            f"/{self._service.full_name}/{method.name}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=response_class.FromString,
        )
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        parsed = json_format.ParseDict(request, message)
        response = call(parsed, timeout=30, metadata=metadata)
        return json_format.MessageToDict(response, preserving_proto_field_name=True)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


@pytest.fixture(scope="module")
def reflected(environment: Mapping[str, str]) -> Iterator[Mapping[str, ReflectedService]]:
    names = ("order", "product", "user")
    services = {
        name: ReflectedService(environment, f"bazaar.{name}.v1.{name.title()}Service")
        for name in names
    }
    yield services
    for service in services.values():
        service.close()


def test_client_from_the_document_places_an_order(
    anybody: OpenApiClient, admin: OpenApiClient, customer: OpenApiClient
) -> None:
    models = anybody.models
    product = add_product(admin, available=5)
    order = place_order(customer, product, quantity=2)
    assert order.state is models.OrderState.ORDER_STATE_CONFIRMED
    assert order.total == models.Money(currency_code="GBP", units="24", nanos=500_000_000)
    assert customer.call("order_service", "get_order", order_id=order.order_id) == order
    left = anybody.call("product_service", "get_product", product_id=product.product_id)
    assert left.stock == models.Stock(available=3, sold=2, stocked=5)


def test_client_from_the_document_reads_why_an_order_is_refused(
    admin: OpenApiClient, customer: OpenApiClient
) -> None:
    models = admin.models
    problem = place_order(customer, add_product(admin, available=1), 2)
    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.code) == (409, models.ProblemCode.FAILED_PRECONDITION)
    assert problem.reason == "OUT_OF_STOCK"


def add_product(openapi: OpenApiClient, *, available: int) -> Any:
    models = openapi.models
    body = models.Product(
        sku=uuid.uuid4().hex,
        name="Paper lantern",
        price=models.Money(currency_code="GBP", units="12", nanos=250_000_000),
        stock=models.Stock(available=available),
    )
    product = openapi.call("product_service", "add_product", body=body)
    assert isinstance(product, models.Product)
    return product


def place_order(openapi: OpenApiClient, product: Any, quantity: int) -> Any:
    models = openapi.models
    body = models.CreateOrderRequest(
        lines=[models.Line(product_id=product.product_id, quantity=quantity)],
        payment_method="pm_card_visa",
    )
    return openapi.call("order_service", "create_order", body=body)


def test_client_by_reflection_places_an_order(
    reflected: Mapping[str, ReflectedService],
) -> None:
    login = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}
    token = reflected["user"].call("Login", login)["access_token"]
    goods = {
        "sku": uuid.uuid4().hex,
        "name": "Tin mug",
        "price": {"currency_code": "GBP", "units": "7"},
        "stock": {"available": 12},
    }
    product = reflected["product"].call("AddProduct", {"product": goods}, token)
    order = {
        "idempotency_key": "first",
        "lines": [{"product_id": product["product_id"], "quantity": 3}],
        "payment_method": "pm_card_visa",
    }
    placed = reflected["order"].call("CreateOrder", order, token)
    assert placed["state"] == "ORDER_STATE_CONFIRMED"
    assert placed["total"] == {"currency_code": "GBP", "units": "21"}
    found = reflected["order"].call("GetOrder", {"order_id": placed["order_id"]}, token)
    assert found == placed
