"""Violations of JSON values, as problems that a client can read."""

from gateway.http.problems import Problem, invalid_field
from gateway.protojson.errors import Violation


def problem_of(violation: Violation, root: str = "") -> Problem:
    """Return the problem of a value: 422 for a number that is out of range, otherwise 400."""
    status = 422 if violation.reason == "OUT_OF_RANGE" else 400
    return invalid_field(violation.path(root), violation.rule, violation.reason, status=status)
