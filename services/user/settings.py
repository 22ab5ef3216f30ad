"""The settings of the user service: its secrets, its first admin, and how it sends mail."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from chassis import errors, jwks, settings
from chassis.service import ServiceSettings
from chassis.settings import DEVELOPMENT_SECRET, is_development
from services.user import domain, id_tokens
from services.user.id_tokens import TrustedIssuer

_MIN_SECRET_CHARACTERS = 32
_DAY_SECONDS = 86_400.0
_DEVELOPMENT_SENDER = "shop@bazaar.example"


def _check_key_secret(secret: SecretStr, info: ValidationInfo) -> SecretStr:
    value = secret.get_secret_value()
    if value == DEVELOPMENT_SECRET:
        if not is_development(info):
            raise ValueError("must be set, unless BAZAAR_ENVIRONMENT is development")
    elif len(value) < _MIN_SECRET_CHARACTERS:
        raise ValueError(f"must have at least {_MIN_SECRET_CHARACTERS} random characters")
    return secret


def _check_notice(notice_seconds: float, info: ValidationInfo) -> float:
    if notice_seconds >= info.data.get("userservice_key_lifetime_seconds", float("inf")):
        raise ValueError("must be less than USERSERVICE_KEY_LIFETIME_SECONDS")
    if notice_seconds < jwks.REFRESH_SECONDS and not is_development(info):
        shortest = f"{jwks.REFRESH_SECONDS:.0f}, which is how often keys are fetched"
        raise ValueError(f"must be at least {shortest}, unless BAZAAR_ENVIRONMENT is development")
    return notice_seconds


def _require_verification(required: bool | None, info: ValidationInfo) -> bool:
    return not is_development(info) if required is None else required


def _parse_issuer(value: object) -> object:
    if not isinstance(value, str):
        return value
    url, _, audience = value.rpartition("=")
    return TrustedIssuer(url, audience)


def _check_issuer(issuer: TrustedIssuer, info: ValidationInfo) -> TrustedIssuer:
    if not issuer.audience:
        raise ValueError("must be like https://ISSUER=AUDIENCE,https://ISSUER=AUDIENCE")
    if id_tokens.check_url(issuer.url).startswith("http:") and not is_development(info):
        raise ValueError("must have https URLs, unless BAZAAR_ENVIRONMENT is development")
    return issuer


def _check_issuers(issuers: Sequence[TrustedIssuer]) -> Sequence[TrustedIssuer]:
    if len({each.url for each in issuers}) < len(issuers):
        raise ValueError("must not repeat an issuer")
    return issuers


def _check_email(email: str) -> str:
    try:
        return domain.check_email(email)
    except errors.Unprocessable as error:
        raise ValueError("must be an e-mail address") from error


def _check_admin_email(email: str) -> str:
    return _check_email(email) if email else email


def _check_admin_password(password: SecretStr, info: ValidationInfo) -> SecretStr:
    value = password.get_secret_value()
    if not info.data.get("userservice_admin_email"):
        return password
    if not 8 <= len(value) <= 128:
        raise ValueError("must have 8 to 128 characters, because USERSERVICE_ADMIN_EMAIL is set")
    if value == DEVELOPMENT_SECRET and not is_development(info):
        raise ValueError("must not be the default, unless BAZAAR_ENVIRONMENT is development")
    return password


def _check_sender(sender: str, info: ValidationInfo) -> str:
    if sender == _DEVELOPMENT_SENDER and not is_development(info):
        raise ValueError("must be set, unless BAZAAR_ENVIRONMENT is development")
    return _check_email(sender)


def _check_link_url(url: str, info: ValidationInfo) -> str:
    if url.startswith("http:") and not is_development(info):
        raise ValueError("must be an https URL, unless BAZAAR_ENVIRONMENT is development")
    return url


def _check_smtp_url(url: SecretStr, info: ValidationInfo) -> SecretStr:
    value = url.get_secret_value()
    if not value:
        if not is_development(info):
            raise ValueError("must be set, unless BAZAAR_ENVIRONMENT is development")
        return url
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in {"smtp", "smtps"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("must be like smtp://USER:PASSWORD@HOST:587 or smtps://HOST")
    return url


_Issuer = Annotated[TrustedIssuer, BeforeValidator(_parse_issuer), AfterValidator(_check_issuer)]


def _setting(default: object) -> Any:
    return Field(default=default, validate_default=True)


class UserSettings(ServiceSettings):
    """Settings of the user service beside those of every service."""

    userservice_key_secret: Annotated[SecretStr, AfterValidator(_check_key_secret)] = _setting(
        SecretStr(DEVELOPMENT_SECRET)
    )
    """What the keys that sign access tokens are encrypted with in the database. All replicas have
    the same; after a change, delete the rows of signing_keys: access tokens are then refused until
    they are refreshed."""
    userservice_key_lifetime_seconds: Annotated[float, Field(ge=1)] = 30 * _DAY_SECONDS
    """How long a key signs access tokens before the next one does."""
    userservice_key_notice_seconds: Annotated[float, Field(gt=0), AfterValidator(_check_notice)] = (
        3_600.0
    )
    """How long before it signs a key is published: longer than services and gateways take to fetch
    it, or else they refuse the first tokens that it signs."""
    userservice_verification_required: Annotated[
        bool | None, AfterValidator(_require_verification)
    ] = _setting(None)
    """Whether users must verify their e-mail addresses before they log in: by default, unless
    BAZAAR_ENVIRONMENT is development. Where they need not, a stranger can tell whether an address
    was registered: by registering it, and then logging in, which succeeds only if it was not."""
    userservice_admin_email: Annotated[str, AfterValidator(_check_admin_email)] = ""
    """Who becomes an admin when there is none; empty for nobody."""
    userservice_admin_password: Annotated[SecretStr, AfterValidator(_check_admin_password)] = (
        _setting(SecretStr(""))
    )
    """The password of that admin."""
    userservice_trusted_issuers: Annotated[
        tuple[_Issuer, ...],
        NoDecode,
        BeforeValidator(settings.split),
        AfterValidator(_check_issuers),
    ] = ()
    """Outside identity providers whose users may log in, separated by commas: `ISSUER=AUDIENCE`,
    for example `https://accounts.google.com=our-client-id`. An issuer is trusted to know whose an
    e-mail address is, also that of an admin. It must be an https URL, or in development an http
    URL of this machine."""
    userservice_smtp_url: Annotated[SecretStr, AfterValidator(_check_smtp_url)] = _setting(
        SecretStr("")
    )
    """The mail server: `smtps://` with TLS from the start, by default on port 465, or `smtp://`
    with STARTTLS, by default on port 587. Only a server on this machine may be without TLS. The
    certificate is verified by the system's authorities, or those of SSL_CERT_FILE. Where it is
    empty, mails are files in USERSERVICE_MAIL_DIRECTORY."""
    userservice_mail_directory: Annotated[str, Field(min_length=1)] = ".data/mail"
    """Where mails are written in development, by default beside `.env`."""
    userservice_mail_sender: Annotated[str, AfterValidator(_check_sender)] = _setting(
        _DEVELOPMENT_SENDER
    )
    """The e-mail address that mails are from; it has to be set outside development."""
    userservice_link_url: Annotated[
        str, Field(pattern=r"^https?://[!-~]+$"), AfterValidator(_check_link_url)
    ] = _setting("http://localhost:8080")
    """The base URL of the shop's pages, to which the links in mails lead: `/verify-email` and
    `/reset-password`, with the token in the fragment, which no server sees. It has to be an https
    URL outside development."""
