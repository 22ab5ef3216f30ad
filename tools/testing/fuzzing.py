"""Schemathesis over the OpenAPI document of a running API: no server error, no false document.

It sends what fits the schemas and what does not, and checks every response. Three of its checks do
not apply: the proto3 JSON mapping takes more than the one form that a schema shows (null, numbers
as strings, enums as numbers), a stream reports an invalid item in a response of 200, services have
rules that no schema can express, and all requests have the token of the run, also those that are
meant to lack it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.testing import fuzzing_hooks

TIMEOUT_SECONDS = 280.0

_UNFIT_CHECKS = (
    "missing_required_header",
    "negative_data_rejection",
    "positive_data_acceptance",
)
_OPTIONS = (
    "--mode=all",
    "--seed=1",
    "--no-color",
    "--warnings=off",
    "--generation-database=none",
    "--request-timeout=10",
)
_KNOWN_PROBABILITY = 0.8
_CONFIGURATION = "schemathesis.toml"
_REPORT = "report.json"


class FuzzingError(Exception):
    """The run itself did not work; the message is what it printed."""


@dataclass(frozen=True)
class Findings:
    """The result of a run."""

    output: str
    failures: int
    unsuccessful: frozenset[str]
    """The operations, by their ids, of which no response had a status of 2xx."""


def fuzz(
    url: str,
    *options: str,
    examples: int,
    unfit_checks: Sequence[str] = (),
    known: Mapping[str, Sequence[str | int]] | None = None,
    spared: Mapping[str, Sequence[str]] | None = None,
) -> Findings:
    """Run Schemathesis over the document at `url`, with further options of its command line.

    `examples` is how many random calls each phase makes to an operation. `known` are values that
    most calls take for a parameter, such as ids of what is there: `path.book_id`,
    `body.lines[*].book_id`. `spared` are ids that operations, by theirs, must not have in the path:
    that of the user who makes the calls, where the operation is their deletion.

    Raises:
        FuzzingError: it could not test all operations of the document.
    """
    excluded = ",".join((*_UNFIT_CHECKS, *unfit_checks))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / _CONFIGURATION).write_text(_configuration(known or {}), encoding="utf-8")
        output = _run(
            directory,
            spared or {},
            *(f"--config-file={_CONFIGURATION}", "run", f"{url}/openapi.json"),
            *(*_OPTIONS, f"--max-examples={examples}", f"--exclude-checks={excluded}"),
            *(f"--report-json-path={_REPORT}", *options),
        )
        return _read_findings(directory, output)


def _configuration(known: Mapping[str, Sequence[str | int]]) -> str:
    """Write the configuration file; strings and arrays of JSON are those of TOML, too."""
    dictionaries = ""
    parameters = "[parameters]\n"
    for number, (name, values) in enumerate(known.items()):
        dictionaries += f"[dictionaries.d{number}]\nvalues = {json.dumps(values)}\n"
        binding = f'{{ dictionary = "d{number}", probability = {_KNOWN_PROBABILITY} }}'
        parameters += f"{json.dumps(name)} = {binding}\n"
    return dictionaries + parameters


def _run(directory: Path, spared: Mapping[str, Sequence[str]], *arguments: str) -> str:
    environment = {
        "HOME": str(directory),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "SCHEMATHESIS_HOOKS": fuzzing_hooks.__name__,
        fuzzing_hooks.SPARED: json.dumps(spared),
    }
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *arguments],
        check=False,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    return done.stdout


def _read_findings(directory: Path, output: str) -> Findings:
    report = directory / _REPORT
    if not report.is_file():
        raise FuzzingError(output)
    result = json.loads(report.read_text(encoding="utf-8"))
    operations = result["operations"]
    called, successful = fuzzing_hooks.read_responses(directory)
    if not called or operations["errored"] or len(called) != operations["selected"]:
        raise FuzzingError(output)
    return Findings(output, result["test_cases"]["unique_failures"], called - successful)
