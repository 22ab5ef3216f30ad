"""The gateway with the probe service: calls by its document, and calls that violate it."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from probe.v1 import probe_pb2

from gateway.testing.brief_servicer import BriefServicer
from gateway.testing.harness import descriptor_set, make_app, serve_app
from gateway.testing.servicer import serve_probes
from tools.testing.fuzzing import Findings, fuzz

pytest_plugins = ("tools.postgres.testing",)
DATABASE = "gateway"

UNFIT_CHECKS = (
    # A path that two templates match takes the methods of both, and custom ones; OpenAPI has one
    # template for each path, and no custom methods.
    "allow_header_conformance",
    # The probe service stores nothing, so nothing can be missing after a delete.
    "ensure_resource_availability",
    "use_after_free",
)


@pytest_asyncio.fixture
async def url(database_url: str) -> AsyncIterator[str]:
    async with serve_probes(BriefServicer) as (_, port):
        app = make_app(descriptor_set(probe_pb2.DESCRIPTOR), port, database_url=database_url)
        async with serve_app(app) as url:
            yield url


async def test_every_binding_responds_as_documented(url: str) -> None:
    findings = await check(url, "--phases=examples,fuzzing")
    assert findings.unsuccessful == {"ProbeService_Fail"}, findings.output


async def test_every_rpc_responds_as_documented_at_the_bounds_of_its_fields(url: str) -> None:
    await check(url, "--phases=coverage", r"--exclude-operation-id-regex=_\d+$")


async def check(url: str, *options: str) -> Findings:
    findings = await asyncio.to_thread(fuzz, url, *options, examples=12, unfit_checks=UNFIT_CHECKS)
    assert findings.failures == 0, findings.output
    return findings
