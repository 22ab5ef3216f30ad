"""The manifests of both overlays in tests, with the Secrets that production gets from elsewhere.

PYTEST_DONT_REWRITE: nothing here asserts, and test modules import it before pytest does.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.kubernetes.manifests import Manifests, Object, make_values, read_files
from tools.certs.authority import Authority
from tools.certs.directories import PROGRAMS

DIRECTORY = Path(__file__).parent
OVERLAYS = ("development", "production")
VERSIONS = ("1.35", "1.36", "1.37")
"""The versions of Kubernetes that we support."""
SECRETS = {
    "gateway": ["APIGATEWAY_DATABASE_PASSWORD"],
    "migrations": ["POSTGRES_PASSWORD"],
    "order": ["ORDERSERVICE_DATABASE_PASSWORD"],
    "payment": [
        "PAYMENTSERVICE_DATABASE_PASSWORD",
        "PAYMENTSERVICE_STRIPE_API_KEY",
        "PAYMENTSERVICE_STRIPE_WEBHOOK_SECRET",
    ],
    "product": ["PRODUCTSERVICE_DATABASE_PASSWORD"],
    "user": [
        "USERSERVICE_ADMIN_PASSWORD",
        "USERSERVICE_DATABASE_PASSWORD",
        "USERSERVICE_KEY_SECRET",
        "USERSERVICE_SMTP_URL",
    ],
}
"""The keys of the Secrets of production, which the README lists."""
_VALUES = {"USERSERVICE_SMTP_URL": "smtps://mail.shop.example"}


def make_secrets(overlay: str) -> Sequence[Object]:
    """Make the Secrets that are not among the files of an overlay."""
    authority = Authority.create(PROGRAMS)
    secrets = []
    for name in PROGRAMS:
        pair, trusted = authority.issue(name), authority.pair.certificate
        files = {"ca.crt": trusted, "tls.crt": pair.certificate, "tls.key": pair.key}
        values = {file: content.decode() for file, content in files.items()}
        secrets.append(make_values("Secret", f"{name}-tls", values))
    if overlay == "production":
        for name, keys in SECRETS.items():
            values = {key: _VALUES.get(key, f"{key} of 32 characters or more") for key in keys}
            secrets.append(make_values("Secret", f"{name}-secrets", values))
    return secrets


@pytest.fixture(scope="session", params=OVERLAYS)
def unspoiled(request: pytest.FixtureRequest) -> Manifests:
    """Return the manifests of an overlay, as its files have them."""
    found = read_files(DIRECTORY / request.param)
    return Manifests([*found.objects, *make_secrets(request.param)])


@pytest.fixture
def manifests(unspoiled: Manifests) -> Manifests:
    """Return a copy of them, which a test may change."""
    return copy.deepcopy(unspoiled)
