"""Parameters of requests: form-encoded, nested by brackets (https://docs.stripe.com/api)."""

from collections.abc import Collection
from urllib.parse import parse_qsl

from tools.fakes.stripe.errors import NotExecutedError, missing

MAX_PARAMETERS = 200
MAX_METADATA = 50
"""https://docs.stripe.com/api/metadata: 50 keys of 40 characters, values of 500."""
MAX_METADATA_KEY = 40
MAX_METADATA_VALUE = 500


class Parameters:
    """The parameters of a request by their full names, such as `metadata[order_id]`."""

    def __init__(self, encoded: str, allowed: Collection[str]) -> None:
        """Parse parameters, whose names without brackets are in `allowed`."""
        try:
            pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError as error:
            raise NotExecutedError("Invalid request body.") from error
        self.values = dict(pairs)
        for name in self.values:
            if name.partition("[")[0] not in allowed:
                raise NotExecutedError(
                    f"Received unknown parameter: {name}", code="parameter_unknown", param=name
                )

    def find(self, name: str) -> str | None:
        """Return a parameter, or None if it is absent."""
        value = self.values.get(name)
        if value == "":
            message = f"You passed an empty string for '{name}'."
            raise NotExecutedError(message, code="parameter_invalid_empty", param=name)
        return value

    def get(self, name: str) -> str:
        """Return a parameter that is required."""
        value = self.find(name)
        if value is None:
            raise missing(name)
        return value

    def find_integer(self, name: str) -> int | None:
        """Return an integer, or None if it is absent."""
        value = self.find(name)
        if value is None:
            return None
        try:
            return int(value)
        except ValueError as error:
            message = f"Invalid integer: {value}"
            raise NotExecutedError(message, code="parameter_invalid_integer", param=name) from error

    def find_choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of the choices, or None if it is absent."""
        value = self.find(name)
        if value is not None and value not in choices:
            raise NotExecutedError(f"Invalid {name}: must be one of {choices}", param=name)
        return value

    def flag(self, name: str) -> bool:
        """Return whether a parameter is `true`."""
        return self.find_choice(name, ("true", "false")) == "true"

    def metadata(self) -> dict[str, str]:
        """Return the metadata."""
        found = {
            name.removeprefix("metadata[").removesuffix("]"): value
            for name, value in self.values.items()
            if name.startswith("metadata[")
        }
        if len(found) > MAX_METADATA or any(
            len(key) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE
            for key, value in found.items()
        ):
            raise NotExecutedError("Metadata is too large.", param="metadata")
        return found

    def expands(self, path: str) -> bool:
        """Return whether an object is to be expanded (https://docs.stripe.com/expand)."""
        return any(
            value == path for name, value in self.values.items() if name.startswith("expand[")
        )
