"""CORS: what browsers allow pages of other origins."""

from collections.abc import AsyncIterator

import httpx
import pytest
from probe.v1 import probe_pb2

from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import ProbeServicer, serve_probes

SHOP = "https://shop.example"
PREFLIGHT = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}


@pytest.fixture
async def servicer_and_port() -> AsyncIterator[tuple[ProbeServicer, int]]:
    async with serve_probes() as serving:
        yield serving


@pytest.fixture
def servicer(servicer_and_port: tuple[ProbeServicer, int]) -> ProbeServicer:
    return servicer_and_port[0]


@pytest.fixture(params=[frozenset({SHOP}), frozenset({"*"}), frozenset()], ids=["one", "all", "no"])
async def client(
    request: pytest.FixtureRequest, servicer_and_port: tuple[ProbeServicer, int]
) -> AsyncIterator[httpx.AsyncClient]:
    port = servicer_and_port[1]
    app = make_app(
        descriptor_set(probe_pb2.DESCRIPTOR), port, apigateway_cors_origins=request.param
    )
    async with serve_app(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


@pytest.mark.parametrize("client", [frozenset({SHOP})], indirect=True)
async def test_named_origin_may_read_and_vary_is_set(client: httpx.AsyncClient) -> None:
    for path, status in (("/v1/probes/7", 200), ("/v1/nothing", 404)):
        response = await client.get(path, headers={"Origin": SHOP})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == SHOP
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("client", [frozenset({SHOP})], indirect=True)
async def test_other_origin_may_not_read_and_vary_is_set(client: httpx.AsyncClient) -> None:
    for headers in ({"Origin": "https://other.example"}, {}):
        response = await client.get("/v1/probes/7", headers=headers)
        assert response.status_code == 200
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["Vary"] == "Origin"


@pytest.mark.parametrize("client", [frozenset({SHOP}), frozenset({"*"})], indirect=True)
async def test_preflight_allows_the_methods_of_the_path(client: httpx.AsyncClient) -> None:
    headers = PREFLIGHT | {"Access-Control-Request-Headers": "content-type,idempotency-key"}
    response = await client.options("/v1/probes", headers=headers)
    assert response.status_code == 204
    assert response.headers["Access-Control-Allow-Origin"] in (SHOP, "*")
    assert response.headers["Access-Control-Allow-Methods"] == "OPTIONS, POST, REPORT"
    assert response.headers["Access-Control-Allow-Headers"] == "content-type,idempotency-key"


@pytest.mark.parametrize("client", [frozenset({SHOP}), frozenset({"*"})], indirect=True)
@pytest.mark.parametrize("path", ["/v1/anything", "/v1/anything:watch"])
async def test_preflight_never_makes_a_call(
    client: httpx.AsyncClient, servicer: ProbeServicer, path: str
) -> None:
    response = await client.options(path, headers=PREFLIGHT)
    assert (response.status_code, servicer.calls) == (204, [])
    assert response.headers["Access-Control-Allow-Origin"] in (SHOP, "*")
    allowed = response.headers["Access-Control-Allow-Methods"].split(", ")
    assert {"DELETE", "GET", "OPTIONS", "PATCH", "POST", "PUT"} <= set(allowed)


@pytest.mark.parametrize("client", [frozenset({SHOP})], indirect=True)
async def test_options_without_a_preflight_follows_its_rule(
    client: httpx.AsyncClient, servicer: ProbeServicer
) -> None:
    assert (await client.options("/v1/anything", headers={"Origin": SHOP})).status_code == 200
    assert [call.rpc for call in servicer.calls] == ["GetProbe"]


@pytest.mark.parametrize("client", [frozenset({SHOP})], indirect=True)
async def test_preflight_of_an_unknown_path_or_origin_allows_nothing(
    client: httpx.AsyncClient,
) -> None:
    for path, origin in (("/v2/probes", SHOP), ("/v1/probes", "https://other.example")):
        response = await client.options(path, headers=PREFLIGHT | {"Origin": origin})
        assert "Access-Control-Allow-Methods" not in response.headers


@pytest.mark.parametrize("client", [frozenset[str]()], indirect=True)
async def test_preflight_makes_no_call_without_the_setting_either(
    client: httpx.AsyncClient, servicer: ProbeServicer
) -> None:
    response = await client.options("/v1/anything", headers=PREFLIGHT)
    assert (response.status_code, servicer.calls) == (204, [])
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("client", [frozenset[str]()], indirect=True)
async def test_nothing_is_allowed_without_the_setting(client: httpx.AsyncClient) -> None:
    for response in (
        await client.get("/v1/probes/7", headers={"Origin": SHOP}),
        await client.options("/v1/probes", headers=PREFLIGHT),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert "Vary" not in response.headers
