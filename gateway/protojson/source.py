"""Functions compiled from generated source, which tracebacks and debuggers can show.

The source consists of field names, which protobuf has checked, and of quoted strings.
"""

import linecache
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

from google.protobuf.descriptor import FieldDescriptor


def define(lines: Iterable[str], title: str, names: dict[str, Any]) -> None:
    """Execute source in a namespace; `title`, in angle brackets, stands in for its file name."""
    text = "".join(f"{line}\n" for line in lines)
    linecache.cache[title] = (len(text), None, text.splitlines(keepends=True), title)
    exec(compile(text, title, "exec"), names)  # noqa: S102


def field_access(field: FieldDescriptor) -> str:
    """Return the expression that reads a field of `message`."""
    return f"getattr(message, {field.name!r})" if iskeyword(field.name) else f"message.{field.name}"
