"""The services go on while the next version of each is there already: expand, then contract.

Nothing can run a version that is not written yet. So the schemas are expanded by what a revision
may do, while the services run and have prepared their statements. The next version is an SQL
statement that sets the new columns of all rows, before and after each call between the services.
"""

from collections.abc import Iterator
from typing import LiteralString

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from bazaar.order.v1 import order_pb2
from bazaar.product.v1 import product_pb2
from bazaar.user.v1 import user_pb2
from migrations.roles import LEDGERS
from services.order.testing import (
    CALLS,
    DECLINED_CARD,
    Shop,
    Urls,
    audit,
    lose,
    make_due,
    new_order,
    new_refund,
    read,
)
from tools.postgres.testing import connect

pytest_plugins = ("tools.postgres.testing", "services.order.testing")

_TABLES: LiteralString = """
SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
WHERE relname <> 'alembic_version'
"""
_ROUNDS = 6
"""After how many uses of a statement psycopg has prepared it, and one more."""
_DELETED = ("public.mails",)
"""Tables whose rows the services delete: a mail, once it is sent."""
_EXPAND = """
ALTER TABLE {table}
    ADD COLUMN next_note text,
    ADD COLUMN next_number integer NOT NULL DEFAULT 0;
CREATE INDEX ON {table} (next_number);
"""
_MARK = """
UPDATE {table} SET next_note = 'set by the next version', next_number = next_number + 1
WHERE next_note IS NULL
"""


class NextVersion:
    """The next version of the services, as far as their databases see it."""

    def __init__(self, urls: Urls) -> None:
        self._urls = urls
        self.marked: dict[tuple[str, str], int] = {}
        """How many rows it has set the new columns of, by database and table."""

    def expand(self) -> None:
        """Add the new columns, with an index; those of ledgers keep their defaults."""
        for database, url in self._urls.items():
            connection = connect(url)
            connection.execute("SET lock_timeout = '5s'")
            for (table,) in connection.execute(_TABLES).fetchall():
                connection.execute(_EXPAND.format(table=table))
                if table not in (*LEDGERS[database], *_DELETED):
                    self.marked[database, table] = 0

    async def mark(self) -> None:
        """Set the new columns of the rows where they are not set."""
        for database, table in self.marked:
            marked = connect(self._urls[database]).execute(_MARK.format(table=table))
            self.marked[database, table] += marked.rowcount

    def lost(self) -> Iterator[str]:
        """Yield the tables of which rows have lost what it has set, or have been replaced."""
        for (database, table), marked in self.marked.items():
            query = f"SELECT count(*) FILTER (WHERE next_number = 1) FROM {table}"
            if read(self._urls[database], query) != [(marked,)]:
                yield f"{database}: {table}"


async def _trade(shop: Shop, urls: Urls, name: str) -> None:
    """Have four orders confirmed, declined, recovered, shipped and refunded."""
    user_id = await shop.new_user(f"{name}@example.com")
    product_id = await shop.new_product(name)
    bought = new_order(user_id, (product_id, 3), key=f"{name}-bought")
    order = await shop.orders.CreateOrder(bought)
    assert order.state == order_pb2.ORDER_STATE_CONFIRMED
    assert (await shop.orders.CreateOrder(bought)).order_id == order.order_id
    held = new_order(
        user_id, (product_id, 1), key=f"{name}-held", payment_method="sandbox:pm_card_visa"
    )
    await shop.orders.CreateOrder(held)
    declined = new_order(
        user_id, (product_id, 1), key=f"{name}-declined", payment_method=DECLINED_CARD
    )
    with pytest.raises(grpc.aio.AioRpcError, match="declined"):
        await shop.orders.CreateOrder(declined)
    refund = new_refund(order.order_id, 3, (product_id, 1), key=f"{name}-refund")
    await shop.orders.RefundOrder(refund)
    await shop.update_status(order.order_id, "SHIPPED")
    shop.hooks.once("before commit_stock", lose)
    await shop.orders.CreateOrder(new_order(user_id, (product_id, 1), key=f"{name}-lost"))
    make_due(urls)
    await shop.worker.run()
    await _change(shop, user_id, product_id)
    assert audit(urls) == []


async def _change(shop: Shop, user_id: str, product_id: str) -> None:
    update = product_pb2.UpdateProductRequest(
        product_id=product_id,
        product=product_pb2.Product(name="Lantern"),
        update_mask=FieldMask(paths=["name"]),
    )
    assert (await shop.products.UpdateProduct(update)).name == "Lantern"
    await shop.products.AdjustStock(
        product_pb2.AdjustStockRequest(
            product_id=product_id, idempotency_key="stocked", delta=5, reason="stocked"
        )
    )
    changed = user_pb2.UpdateUserRequest(
        user_id=user_id,
        user=user_pb2.User(display_name="Grace"),
        update_mask=FieldMask(paths=["display_name"]),
    )
    assert (await shop.users.UpdateUser(changed)).display_name == "Grace"


async def test_the_services_go_on_while_their_schemas_are_expanded(shop: Shop, urls: Urls) -> None:
    for round_number in range(_ROUNDS):
        await _trade(shop, urls, f"before-{round_number}")
    following = NextVersion(urls)
    following.expand()
    await following.mark()
    for call in CALLS:
        for side in ("before", "after"):
            shop.hooks[f"{side} {call}"] = following.mark
    await _trade(shop, urls, "after")
    await following.mark()
    assert list(following.lost()) == []
    assert following.marked["order", "public.orders"] == 4 * (_ROUNDS + 1)
