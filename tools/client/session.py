"""A user's session with the shop: its tokens, and how they are replaced before they expire.

Nothing is sent here, so that every HTTP library can be used: see `auth` and `token_source`.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

RENEWAL = dt.timedelta(minutes=2)
"""How long before its end an access token is replaced: streams that begin with it last as long."""


class LoginError(Exception):
    """The shop refused a login; the message has its response, and `status` that of HTTP."""

    def __init__(self, status: int, response: bytes | str) -> None:
        super().__init__(f"the response to the login is {status}: {response!r}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request for tokens: what is posted where."""

    path: str
    body: Mapping[str, str]


class Session:
    """The tokens of a user. Make one exchange at a time: begin it, send it, and finish it.

    A refresh token is used once, and a second use ends the session. It is therefore given away by
    the exchange that uses it: where the outcome of that remains unknown, the next one is a login.
    Access tokens are replaced as long before their end as `renewal` says.
    """

    def __init__(self, email: str, password: str, renewal: dt.timedelta = RENEWAL) -> None:
        self._login = Exchange("/v1/sessions:login", {"email": email, "password": password})
        self._renewal = renewal
        self._access_token = ""
        self._refresh_token = ""
        self._expire_time = dt.datetime.fromtimestamp(0, dt.UTC)

    @property
    def access_token(self) -> str | None:
        """The access token, or None if an exchange has to replace it first."""
        is_current = dt.datetime.now(dt.UTC) + self._renewal < self._expire_time
        return self._access_token if is_current else None

    def begin_exchange(self) -> Exchange:
        """Return the request that gets new tokens: a refresh where that is possible, or a login."""
        token, self._refresh_token = self._refresh_token, ""
        if not token:
            return self._login
        return Exchange("/v1/sessions/current:refresh", {"refreshToken": token})

    def finish_exchange(self, exchange: Exchange, status: int, response: bytes | str) -> str | None:
        """Keep the tokens of a response, and return the access token.

        After a refresh that was refused there is none, and the next exchange is a login.

        Raises:
            LoginError: a login was refused.
        """
        if status != HTTPStatus.OK:
            if exchange is self._login:
                raise LoginError(status, response)
            return None
        tokens = json.loads(response)
        self._access_token, self._refresh_token = tokens["accessToken"], tokens["refreshToken"]
        self._expire_time = dt.datetime.fromisoformat(tokens["expireTime"])
        return self._access_token
