"""What is a customer's own exists for that customer and for staff, and for nobody else."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.api import field_behavior_pb2
from google.protobuf import message_factory

from chassis.caller import Role
from services.order.testing import new_order, new_refund
from tools.access.rpcs import ADMITTED, STREAM_SECONDS, Outcome, Rpc, call, list_rpcs
from tools.access.testing import Setup

pytest_plugins = ("tools.postgres.testing", "services.order.testing", "tools.access.testing")
pytestmark = pytest.mark.asyncio(loop_scope="module")


def names_a_user(rpc: Rpc) -> bool:
    """Return whether a request may say for which user it is; by default for the caller."""
    field = rpc.descriptor.input_type.fields_by_name.get("user_id")
    options: Any = field.GetOptions() if field else None
    behaviors = options.Extensions[field_behavior_pb2.field_behavior] if field else ()
    return field is not None and field_behavior_pb2.REQUIRED not in behaviors


RPCS = list(list_rpcs())
EACH_OWNED_RPC = pytest.mark.parametrize(
    "rpc",
    [rpc for rpc in RPCS if "OWNER" in rpc.callers and not names_a_user(rpc)],
    ids=lambda rpc: rpc.descriptor.full_name,
)
EACH_RPC_FOR_A_USER = pytest.mark.parametrize(
    "rpc",
    [rpc for rpc in RPCS if rpc.callers and names_a_user(rpc)],
    ids=lambda rpc: rpc.descriptor.full_name,
)
OTHER_VALUES = {"current_password": "not the password", "new_password": "correct horse"}
"""Values of other fields, by their names, without which a request is invalid."""
NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True)
class Owned:
    """A customer, and what is theirs: `ids` by the names of the fields of requests."""

    token: str
    ids: Mapping[str, str]
    secrets: frozenset[str]
    """What nobody else may learn."""

    def request(self, rpc: Rpc) -> bytes:
        """Return a request about what is the customer's.

        Raises:
            LookupError: the request of the RPC names nothing that is here.
        """
        message = message_factory.GetMessageClass(rpc.descriptor.input_type)()
        fields = rpc.descriptor.input_type.fields_by_name
        if not self.ids.keys() & fields.keys():
            raise LookupError(f"{rpc.path} needs a resource that this test does not make")
        for name, value in {**self.ids, **OTHER_VALUES}.items():
            if name in fields:
                setattr(message, name, value)
        return message.SerializeToString()


@pytest_asyncio.fixture(loop_scope="module")
async def owned(setup: Setup) -> Owned:
    """A customer with a refunded order."""
    email = f"{uuid.uuid4().hex}@example.com"
    user_id = await setup.shop.new_user(email)
    product_id = await setup.shop.new_product(uuid.uuid4().hex)
    key = f"key {uuid.uuid4()}"
    order = await setup.shop.orders.CreateOrder(new_order(user_id, (product_id, 2), key=key))
    await setup.shop.orders.RefundOrder(new_refund(order.order_id, 1))
    return Owned(
        setup.shop.issuer.token(user_id, Role.CUSTOMER),
        {"user_id": user_id, "order_id": order.order_id},
        frozenset({email, key, product_id, order.payment_id}),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channels(setup: Setup) -> Mapping[str, grpc.aio.Channel]:
    return await setup.open_channels(setup.read_pair("gateway"))


async def try_as(
    channels: Mapping[str, grpc.aio.Channel], rpc: Rpc, token: str, request: bytes
) -> Outcome:
    channel = channels[rpc.service]
    return await call(channel, rpc, token, request, patience_seconds=STREAM_SECONDS)


@EACH_OWNED_RPC
async def test_what_is_a_customers_does_not_exist_for_another(
    setup: Setup, channels: Mapping[str, grpc.aio.Channel], owned: Owned, rpc: Rpc
) -> None:
    request = owned.request(rpc)
    other_id = await setup.shop.new_user(f"{uuid.uuid4().hex}@example.com")
    other = setup.shop.issuer.token(other_id, Role.CUSTOMER)
    refused = await try_as(channels, rpc, other, request)
    assert refused.code == NOT_FOUND
    assert not [secret for secret in owned.secrets if secret in refused.text]
    missing = Owned(other, {name: str(uuid.uuid4()) for name in owned.ids}, frozenset())
    unknown = await try_as(channels, rpc, other, missing.request(rpc))
    assert blank(refused, owned) == blank(unknown, missing), "it looks like what does not exist"


@EACH_OWNED_RPC
async def test_what_is_a_customers_exists_for_its_owner_and_for_staff(
    setup: Setup, channels: Mapping[str, grpc.aio.Channel], owned: Owned, rpc: Rpc
) -> None:
    request = owned.request(rpc)
    staff = setup.shop.issuer.token(uuid.uuid4(), Role.STAFF)
    by_staff = await try_as(channels, rpc, staff, request) if "STAFF" in rpc.callers else None
    # A customer who is deleted by staff exists no longer.
    is_deleted = rpc.descriptor.name.startswith("Delete") and by_staff is not None
    by_owner = None if is_deleted else await try_as(channels, rpc, owned.token, request)
    for outcome in filter(None, (by_staff, by_owner)):
        assert (outcome.result, outcome.code != NOT_FOUND) == (ADMITTED, True)


@EACH_RPC_FOR_A_USER
async def test_a_customer_does_not_act_for_another(
    setup: Setup, channels: Mapping[str, grpc.aio.Channel], owned: Owned, rpc: Rpc
) -> None:
    other = setup.shop.issuer.token(uuid.uuid4(), Role.CUSTOMER)
    refused = await try_as(channels, rpc, other, owned.request(rpc))
    assert refused.code in {"PERMISSION_DENIED", "INVALID_ARGUMENT"}
    assert not [secret for secret in owned.secrets if secret in refused.text]


def blank(outcome: Outcome, named: Owned) -> str:
    """Return what a caller was told, without the ids that the caller has sent."""
    text = outcome.text
    for value in named.ids.values():
        text = text.replace(value, "")
    return text
