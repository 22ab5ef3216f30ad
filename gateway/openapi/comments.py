"""The comments of protos as Markdown, by the full names of their elements.

A FileDescriptorSet has them if protoc was run with --include_source_info.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto

_SYNTAX = (FileDescriptorProto.SYNTAX_FIELD_NUMBER,)
_INTERNAL = re.compile(r"\(--.*?--\)", re.DOTALL)
_TOOL_LINE = re.compile(r"^\s*buf:lint:.*$", re.MULTILINE)
_WRAP = re.compile(r"(?<!\n)\n(?![\s*+#>|-]|[0-9]+\. )")
_SENTENCE_END = re.compile(r"[.!?](?=\s+[^a-z\s]|\s*$)|\n\n")


class Comments:
    """The comments of the elements of some files."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._files: dict[str, str] = {}
        self._elements: dict[str, str] = {}
        for file in files:
            for location in file.source_code_info.location:
                text = _clean(location.leading_comments or location.trailing_comments)
                path = tuple(location.path)
                if path == _SYNTAX:
                    self._files[file.name] = text
                elif text and (name := _full_name(file, path)):
                    self._elements[name] = text

    def of(self, full_name: str) -> str:
        """Return the comment of an element, or an empty string.

        A value of an enum is named `package.Enum.VALUE`.
        """
        return self._elements.get(full_name, "")

    def of_file(self, name: str) -> str:
        """Return the comment at the head of a file, or an empty string."""
        return self._files.get(name, "")


def first_sentence(text: str) -> tuple[str, str]:
    """Split a comment into its first sentence, without the full stop, and the rest."""
    end = _SENTENCE_END.search(text)
    if end is None:
        return text, ""
    return text[: end.start()], text[end.end() :].strip()


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a comment, without their full stops."""
    while text:
        sentence, text = first_sentence(text)
        yield sentence


def _full_name(file: FileDescriptorProto, path: Sequence[int]) -> str:
    """Return the full name of the element that a path of source info leads to, if it has a name."""
    element: Any = file
    name = file.package
    if len(path) % 2:
        return ""
    for number, index in zip(path[::2], path[1::2], strict=True):
        field = element.DESCRIPTOR.fields_by_number[number]
        if field.message_type is None or "name" not in field.message_type.fields_by_name:
            return ""
        element = getattr(element, field.name)[index]
        name = f"{name}.{element.name}".removeprefix(".")
    return name


def _clean(text: str) -> str:
    """Remove internal comments (AIP-192) and lint directives, and unwrap lines."""
    shown = _TOOL_LINE.sub("", _INTERNAL.sub("", text))
    lines = (line.removeprefix(" ").rstrip() for line in shown.splitlines())
    return _WRAP.sub(" ", "\n".join(lines).strip())
