"""The cookie of an RPC: a secret that browsers keep where no script can read it (RFC 6265)."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from gateway.http.problems import invalid_argument
from gateway.routing.bodies import ResponseBody
from gateway.routing.fields import find_string
from gateway.routing.templates import Template, TemplateError
from gateway.upstream.descriptors import Method

SESSION_HEADER = "X-Session"
"""Asks for cookies. Pages of other sites cannot send it: browsers ask by a preflight first."""

SESSION_VALUE = "cookie"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATH = re.compile(r"/[A-Za-z0-9._~/:@-]*")
_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*")


@dataclass(frozen=True, slots=True)
class Cookie:
    """The option rest.v1.cookie of an RPC."""

    name: str
    path: str
    request_field: str
    """What the cookie fills; empty if nothing."""
    response_field: str
    """What the cookie holds; empty if it is not set."""
    expire_seconds: Callable[[Message], int] | None
    """Reads when the cookie expires, in seconds since the epoch."""
    deleted: bool

    def fill(self, request: Message, cookies: str, *, secure: bool) -> None:
        """Fill an empty field of a request from the cookie in a Cookie header, if it is there.

        Raises:
            Problem: there are two, of which another site of the same domain may have set one.
        """
        if not self.request_field or getattr(request, self.request_field):
            return
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        values = [value for name, _, value in pairs if name == self._full_name(secure=secure)]
        if len(values) > 1:
            raise invalid_argument("A cookie came twice.", "AMBIGUOUS_COOKIE")
        if values:
            setattr(request, self.request_field, values[0])

    def take(self, response: Message, *, secure: bool) -> str:
        """Move the secret out of a response; return a Set-Cookie header, or an empty text.

        Raises:
            ValueError: the secret is not one that a cookie can hold.
        """
        value = getattr(response, self.response_field) if self.response_field else ""
        if not value and not self.deleted:
            return ""
        if _VALUE.fullmatch(value) is None:
            raise ValueError(f"{self.response_field} cannot be the value of a cookie")
        if self.response_field:
            response.ClearField(self.response_field)
        name = self._full_name(secure=secure)
        attributes = [f"{name}={value}", f"Path={self.path}", "HttpOnly", "SameSite=Strict"]
        if secure:
            attributes.append("Secure")
        if self.deleted:
            attributes.append("Max-Age=0")
        elif self.expire_seconds is not None and (at := self.expire_seconds(response)):
            attributes.append(f"Max-Age={max(0, at - int(time.time()))}")
        return "; ".join(attributes)

    def _full_name(self, *, secure: bool) -> str:
        """Return the name with a prefix that keeps it from being set without TLS (RFC 6265bis).

        A cookie that is for the whole host cannot be set by another host of its domain either.
        """
        if not secure:
            return self.name
        return f"__Host-{self.name}" if self.path == "/" else f"__Secure-{self.name}"


def compile_cookie(rpc: Method, template: Template, response: ResponseBody) -> Cookie | None:
    """Compile the option of an RPC for one of its bindings; None if it has none.

    Raises:
        TemplateError: a browser would not send the cookie, a field cannot hold it, or a record
            might.
    """
    option: Any = rpc.cookie
    if option is None or not option.ByteSize():
        return None
    if _NAME.fullmatch(option.name) is None or _PATH.fullmatch(option.path) is None:
        raise TemplateError("the cookie must have a name and a path")
    if rpc.client_streaming or rpc.server_streaming or not rpc.not_recorded:
        raise TemplateError("an RPC with a cookie must be unary and not_recorded")
    if option.request_field and not _is_within(template.text, option.path):
        raise TemplateError(f"{template.text} is not within the path {option.path} of its cookie")
    _check_field(rpc.descriptor.input_type, option.request_field)
    _check_field(rpc.descriptor.output_type, option.response_field)
    if option.response_field and response.field is not None:
        raise TemplateError("a cookie is taken from a whole response only")
    return Cookie(
        name=option.name,
        path=option.path,
        request_field=option.request_field,
        response_field=option.response_field,
        expire_seconds=_expiry(rpc.descriptor.output_type, option.expire_time_field),
        deleted=option.deleted,
    )


def _is_within(path: str, parent: str) -> bool:
    """Return whether browsers send a cookie of the path `parent` to `path` (RFC 6265 §5.1.4)."""
    return path == parent or path.startswith(f"{parent.rstrip('/')}/")


def _check_field(message: Descriptor, name: str) -> None:
    if name and find_string(message, name) is None:
        raise TemplateError(f"{message.full_name} has no string field {name} for the cookie")


def _expiry(message: Descriptor, name: str) -> Callable[[Message], int] | None:
    if not name:
        return None
    field = message.fields_by_name.get(name)
    kind = None if field is None or field.is_repeated else field.message_type
    if kind is None or kind.full_name != "google.protobuf.Timestamp":
        raise TemplateError(f"{message.full_name} has no Timestamp {name} for the cookie")
    return attrgetter(f"{name}.seconds")
