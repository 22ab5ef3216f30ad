"""Which providers may be switched on, and what they need."""

from pathlib import Path

import pytest

from chassis import settings
from services.payment.settings import PaymentSettings

STRIPE = {
    "PAYMENTSERVICE_PROVIDERS": "stripe",
    "PAYMENTSERVICE_STRIPE_API_KEY": "sk_live_hunter2",
    "PAYMENTSERVICE_STRIPE_WEBHOOK_SECRET": "hunter2",
}
PAYPAL = {
    "PAYMENTSERVICE_PROVIDERS": "paypal",
    "PAYMENTSERVICE_PAYPAL_CLIENT_ID": "shop",
    "PAYMENTSERVICE_PAYPAL_CLIENT_SECRET": "hunter2",
    "PAYMENTSERVICE_PAYPAL_WEBHOOK_ID": "wh-1",
}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_WORKSPACE_DIRECTORY", str(tmp_path))


def load(monkeypatch: pytest.MonkeyPatch, **environment: str) -> PaymentSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings.load(PaymentSettings)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str
) -> set[str]:
    """Return the variables that are named, none with its value."""
    with pytest.raises(SystemExit) as raised:
        load(monkeypatch, **environment)
    assert raised.value.code == 78
    printed = capsys.readouterr().err
    assert "hunter2" not in printed
    return {line.partition(":")[0] for line in printed.splitlines()[:-1]}


def test_the_sandbox_is_for_development_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys) == {"PAYMENTSERVICE_PROVIDERS"}
    found = load(monkeypatch, BAZAAR_ENVIRONMENT="development")
    assert found.paymentservice_providers == ("sandbox",)


def test_several_providers_can_be_on(monkeypatch: pytest.MonkeyPatch) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": "paypal, stripe"}
    assert load(monkeypatch, **both).paymentservice_providers == ("paypal", "stripe")


@pytest.mark.parametrize("names", ["", "stripe,,paypal", "square", "paypal,paypal"])
def test_only_known_providers_can_be_on_each_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], names: str
) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": names}
    assert refused(monkeypatch, capsys, **both) == {"PAYMENTSERVICE_PROVIDERS"}


@pytest.mark.parametrize("needed", [STRIPE, PAYPAL])
def test_a_provider_needs_its_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], needed: dict[str, str]
) -> None:
    named = refused(
        monkeypatch, capsys, PAYMENTSERVICE_PROVIDERS=needed["PAYMENTSERVICE_PROVIDERS"]
    )
    assert named == needed.keys() - {"PAYMENTSERVICE_PROVIDERS"}


@pytest.mark.parametrize(
    ("environment", "key"),
    [("development", "sk_live_hunter2"), ("production", "rk_test_hunter2")],
)
def test_a_key_of_stripe_is_for_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environment: str, key: str
) -> None:
    given = STRIPE | {"BAZAAR_ENVIRONMENT": environment, "PAYMENTSERVICE_STRIPE_API_KEY": key}
    assert refused(monkeypatch, capsys, **given) == {"PAYMENTSERVICE_STRIPE_API_KEY"}


def test_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    both = STRIPE | PAYPAL | {"PAYMENTSERVICE_PROVIDERS": "stripe,paypal"}
    assert "hunter2" not in repr(load(monkeypatch, **both))
