"""Misspelt settings are refused, and the variables of other programs are left alone."""

import pytest

from chassis.setting_names import find_misspelt

KNOWN = {
    "APIGATEWAY_CALL_TIMEOUT_SECONDS",
    "APIGATEWAY_HOST",
    "APIGATEWAY_PORT",
    "APIGATEWAY_WORKERS",
    "DATABASE_URL",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "POSTGRES_DATABASE",
    "POSTGRES_HOST",
    "POSTGRES_PASSWORD",
    "POSTGRES_PORT",
    "POSTGRES_USER",
    "USERSERVICE_HOST",
    "USERSERVICE_PORT",
}


def find(*names: str) -> list[tuple[str, str | None]]:
    return list(find_misspelt(names, KNOWN, "APIGATEWAY_"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("APIGATEWAY_WORKER", "APIGATEWAY_WORKERS"),
        ("APIGATEWAY_CALL_TIMEOUT", "APIGATEWAY_CALL_TIMEOUT_SECONDS"),
        ("APIGATEWAY_TIMEOUT_SECONDS", "APIGATEWAY_CALL_TIMEOUT_SECONDS"),
        ("APIGATEWAY_QUOTA", None),
        ("DATABSE_URL", "DATABASE_URL"),
        ("LOG_LEVLE", "LOG_LEVEL"),
        ("LOG_LEVELS", "LOG_LEVEL"),
        ("LOG_LEVEI", "LOG_LEVEL"),
        ("POSTGRES_HSOT", "POSTGRES_HOST"),
        ("POSTGRES_DATABSE", "POSTGRES_DATABASE"),
        ("POSTGRESS_PORT", "POSTGRES_PORT"),
        ("USERSERVICE_PROT", "USERSERVICE_PORT"),
    ],
)
def test_a_misspelt_setting_is_found_with_the_closest_known_one(
    name: str, meant: str | None
) -> None:
    assert find(name) == [(name, meant)]


@pytest.mark.parametrize(
    "name",
    [
        "USERSERVICE_POOL_SIZE",
        "USERSERVICE_DATABASE_URL",
        "POSTGRES_DB",
        "POSTGRES_HOST_AUTH_METHOD",
        "POSTGRES_INITDB_ARGS",
        "POSTGRES_PASSWORD_FILE",
        "POSTGRES_PORT_5432_TCP",
        "POSTGRES_URL",
        "POSTGRES_USERNAME",
        "LOG_DIR",
        "LOG_FILE",
        "APIGATEWAY_SERVICE_HOST",
        "APIGATEWAY_SERVICE_PORT_HTTP",
        "APIGATEWAY_PORT_8080_TCP",
        "APIGATEWAY_PORT_8080_TCP_ADDR",
        "PATH",
        "WORKERS",
    ],
)
def test_variables_of_other_programs_are_ignored(name: str) -> None:
    assert find(name) == []


def test_known_names_are_accepted_and_misspelt_ones_sorted() -> None:
    assert find(*KNOWN, "POSTGRES_PROT", "LOG_LEVL") == [
        ("LOG_LEVL", "LOG_LEVEL"),
        ("POSTGRES_PROT", "POSTGRES_PORT"),
    ]


def test_without_a_prefix_only_typos_are_found() -> None:
    assert list(find_misspelt(["APIGATEWAY_QUOTA", "LOG_LEVL"], KNOWN, "")) == [
        ("LOG_LEVL", "LOG_LEVEL")
    ]
