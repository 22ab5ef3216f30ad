"""The stack keeps to every rule, and every rule catches the faults that it is there for."""

import json
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from deploy.stack.rules import (
    RULES,
    check_addresses,
    check_contents,
    check_health,
    check_images,
    check_isolation,
    check_names,
    check_replicas,
    check_resources,
    check_start,
    check_stop,
)
from deploy.stack.secrets_main import make
from deploy.stack.stack_file import Stack, read_files
from gateway.http.body import MAX_BODY_BYTES

Rule: TypeAlias = Callable[[Stack], Iterator[str]]
Fault: TypeAlias = Callable[[Any], object]

DIRECTORY = Path(__file__).parent
DEVELOPMENT = [DIRECTORY / "stack.yaml"]
PRODUCTION = [*DEVELOPMENT, DIRECTORY / "production.yaml"]
NGINX = DIRECTORY / "nginx.conf"
FAILURES = {400, 405, 413, 414, 494, 497, 501, 502, 503, 504}
"""The statuses of responses of nginx's own; 494 and 497 are names of its own for kinds of 400."""
CONNECTION_BYTES = 40 * 1024
"""What a connection of a client takes of the memory of nginx, as measured with TLS."""
FROM_OUTSIDE = {
    "PAYMENTSERVICE_STRIPE_API_KEY": "sk_live_of_the_shop",
    "PAYMENTSERVICE_STRIPE_WEBHOOK_SECRET": "whsec_of_32_characters_or_even_more",
    "USERSERVICE_SMTP_URL": "smtps://mail.shop.example",
}
"""The secrets of production that nobody can make."""


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("secrets")
    make(root)
    for name, value in FROM_OUTSIDE.items():
        (root / name).write_text(value)
    others = {"REGISTRY": "registry.example/", "TAG": "1", "CONFIG_VERSION": "2"}
    return {"SECRETS_DIRECTORY": str(root), **others}


@pytest.fixture(
    scope="session", params=[DEVELOPMENT, PRODUCTION], ids=["development", "production"]
)
def stack(request: pytest.FixtureRequest, variables: dict[str, str]) -> Stack:
    return read_files(request.param, variables)


@pytest.fixture(scope="session")
def unspoiled(variables: dict[str, str]) -> str:
    return json.dumps(read_files(PRODUCTION, variables).content)


@pytest.fixture
def production(unspoiled: str) -> Stack:
    """Return a stack whose services share nothing, so that a fault can be in one of them."""
    return Stack(DIRECTORY, json.loads(unspoiled))


FAULTS: list[tuple[Rule, Fault]] = [
    (check_start, lambda s: s["order"]["environment"].pop("POSTGRES_HOST")),
    (check_start, lambda s: s["order"]["environment"].update(LOG_LEVEL="loud")),
    (check_start, lambda s: s["order"]["environment"].update(ORDERSERVICE_CAPTURE="x")),
    (check_start, lambda s: s["gateway"]["environment"].pop("USERSERVICE_PORT")),
    (check_start, lambda s: s["user"]["environment"].update(USERSERVICE_KEY_SECRET="seen")),
    (check_start, lambda s: s["user"]["secrets"].remove("USERSERVICE_DATABASE_PASSWORD")),
    (check_start, lambda s: s["order"]["secrets"].append("ORDERSERVICE_PASSWORD")),
    (check_start, lambda s: s["order"]["secrets"][1].update(target="/etc/bazaar/ca.crt")),
    (check_start, lambda s: s["order"]["secrets"][2].update(source="user-certificate")),
    (check_start, lambda s: s["migrations"]["secrets"].pop()),
    (check_start, lambda s: s.pop("payment")),
    (check_names, lambda s: s["order"]["environment"].update(SHOP_NAME="x")),
    (check_names, lambda s: s["order"]["secrets"].append("USERSERVICE_DATABASE_PASSWORD")),
    (check_addresses, lambda s: s["order"]["environment"].update(ORDERSERVICE_HOST="127.0.0.1")),
    (check_addresses, lambda s: s["order"]["environment"].update(USERSERVICE_HOST="users")),
    (check_addresses, lambda s: s["order"]["environment"].update(ORDERSERVICE_PORT="50051")),
    (check_stop, lambda s: s["migrations"].pop("init")),
    (check_stop, lambda s: s["order"].update(stop_grace_period="20s")),
    (check_stop, lambda s: s["gateway"].pop("stop_grace_period")),
    (check_stop, lambda s: s["order"]["environment"].update(SERVICE_GRACE_SECONDS="60")),
    (check_health, lambda s: s["order"].pop("healthcheck")),
    (check_health, lambda s: s["order"]["healthcheck"]["test"].pop()),
    (check_health, lambda s: s["order"]["healthcheck"]["test"].__setitem__(-1, "health")),
    (check_health, lambda s: s["gateway"]["healthcheck"]["test"].append("ready")),
    (check_health, lambda s: s["order"]["healthcheck"].update(timeout="1s")),
    (check_replicas, lambda s: s["order"]["deploy"].update(replicas=1)),
    (check_replicas, lambda s: s["order"]["deploy"]["update_config"].update(order="stop-first")),
    (check_replicas, lambda s: s["order"]["deploy"]["rollback_config"].update(parallelism=2)),
    (check_replicas, lambda s: s["order"]["deploy"]["update_config"].pop("failure_action")),
    (check_replicas, lambda s: s["migrations"]["deploy"].pop("mode")),
    (check_isolation, lambda s: s["order"].update(read_only=False)),
    (check_isolation, lambda s: s["postgres"].pop("cap_drop")),
    (check_isolation, lambda s: s["order"].update(privileged=True)),
    (check_isolation, lambda s: s["nginx"].update(user="0:0")),
    (check_isolation, lambda s: s["order"]["volumes"].append({"type": "bind", "source": "/"})),
    (check_isolation, lambda s: s["nginx"]["networks"].append("shop")),
    (check_isolation, lambda s: s["postgres"].update(ports=["5432:5432"])),
    (check_isolation, lambda s: s["order"]["deploy"].pop("endpoint_mode")),
    (check_resources, lambda s: s["order"]["deploy"].pop("resources")),
    (check_resources, lambda s: s["postgres"]["deploy"]["resources"]["limits"].pop("memory")),
    (check_resources, lambda s: s["nginx"]["deploy"]["resources"]["limits"].pop("pids")),
    (check_resources, lambda s: s["order"]["volumes"][0].pop("tmpfs")),
    (check_images, lambda s: s["order"].update(image="bazaar/order:latest")),
    (check_images, lambda s: s["order"].update(image="registry.example/bazaar/user:1")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_stack_keeps_to_the_rule(stack: Stack, rule: Rule) -> None:
    assert list(rule(stack)) == []


@pytest.mark.parametrize(
    ("rule", "fault"), FAULTS, ids=[f"{rule.__name__}-{i}" for i, (rule, _) in enumerate(FAULTS)]
)
def test_a_rule_catches_a_seeded_fault(production: Stack, rule: Rule, fault: Fault) -> None:
    fault(production.services)
    assert list(rule(production))


@pytest.mark.parametrize("kind", ["configs", "secrets"])
def test_a_name_that_never_changes_is_caught(production: Stack, kind: str) -> None:
    next(iter(production.content[kind].values())).pop("name")
    assert list(check_contents(production))


def test_every_rule_is_shown_to_catch_a_fault() -> None:
    assert {rule for rule, _ in FAULTS} | {check_contents} == set(RULES)


def test_nginx_has_the_ports_and_limits_of_what_it_stands_between(stack: Stack) -> None:
    config = NGINX.read_text()
    published = {str(port["target"]) for port in stack.services["nginx"]["ports"]}
    assert published == set(re.findall(r"listen (\d+)[ ;]", config))
    port = stack.services["gateway"]["environment"]["APIGATEWAY_PORT"]
    assert re.findall(r"http://gateway:(\d+)", config) == [port]
    megabytes = MAX_BODY_BYTES // 2**20
    assert re.findall(r"client_max_body_size (\S+);", config) == [f"{megabytes}m", "0"]
    assert f"larger than {MAX_BODY_BYTES} bytes" in config
    # The first counts: a stream with a key is a stream.
    assert re.findall(r"if \((\S+)\)", config) == ["$is_stream", "$is_repeatable"]
    (network,) = stack.content["networks"]["edge"]["ipam"]["config"]
    proxies = stack.services["gateway"]["environment"]["APIGATEWAY_TRUSTED_PROXIES"]
    assert proxies == network["subnet"]


def find_number(directive: str) -> int:
    (number,) = re.findall(rf"^ *{directive} (\d+);", NGINX.read_text(), re.MULTILINE)
    return int(number)


def test_nginx_has_the_memory_and_files_for_its_connections_and_bodies(stack: Stack) -> None:
    nginx = stack.services["nginx"]
    (volume,) = nginx["volumes"]
    bodies = volume["tmpfs"]["size"]
    assert find_number("limit_conn clients") * MAX_BODY_BYTES < bodies
    connections = find_number("worker_connections")
    assert find_number("worker_rlimit_nofile") > 2 * connections
    memory = find_number("worker_processes") * connections * CONNECTION_BYTES + bodies
    gigabytes = nginx["deploy"]["resources"]["limits"]["memory"].removesuffix("G")
    assert memory < int(gigabytes) * 2**30


def test_failures_of_nginx_look_like_those_of_the_gateway() -> None:
    config = NGINX.read_text()
    pages = re.findall(r"error_page ([\d ]+) ", config)
    assert {int(code) for page in pages for code in page.split()} == FAILURES
    problems = re.findall(r"return (\d+) '(.+)';", config)
    assert {int(status) for status, _ in problems} == {400, 413, 431, 503}
    for status, text in problems:
        problem = json.loads(text)
        assert (problem["status"], problem["title"]) == (
            int(status),
            HTTPStatus(int(status)).phrase,
        )
