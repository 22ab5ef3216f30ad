"""Docstrings of settings, read from their source when somebody asks for them.

Pydantic's `use_attribute_docstrings` reads them whenever a class is made, that is, each time that a
program starts.
"""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

from pydantic_settings import BaseSettings


def field_docstrings(cls: type[BaseSettings]) -> dict[str, str]:
    """Return the docstrings of the fields of settings, their bases' included, by name."""
    bases = [base for base in reversed(cls.__mro__) if issubclass(base, BaseSettings)]
    return dict(found for base in bases for found in _read(base))


def _read(cls: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    for definition in ast.parse(inspect.getsource(cls)).body:
        if not isinstance(definition, ast.ClassDef):
            continue
        for statements in pairwise(definition.body):
            match statements:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(docstring))),
                ):
                    yield name, inspect.cleandoc(docstring)
