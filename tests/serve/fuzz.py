"""Random requests over the whole description of the API, and what must hold of every answer."""

from __future__ import annotations

from collections import Counter

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def fuzz(url: str, cases: int, seed: int = 0) -> Counter[int]:
    """Send at least about `cases` requests, good and bad ones, spread over all operations; statuses by how often they came.

    Raises:
        Exception: What schemathesis finds: a server error, or an answer that is not as described.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    each = max(1, -(-cases // len(operations)))
    statuses: Counter[int] = Counter()
    for operation in operations:
        _one(operation, GenerationMode.POSITIVE, each, statuses)
        # Of an id alone nothing can be wrong, and finding that out takes long.
        if operation.body or operation.query:
            _one(operation, GenerationMode.NEGATIVE, each, statuses)
    return statuses


def _one(operation: object, mode: GenerationMode, each: int, statuses: Counter[int]) -> None:
    try:
        strategy = operation.as_strategy(generation_mode=mode)  # type: ignore[attr-defined]
    except Exception:
        if mode is GenerationMode.NEGATIVE:
            return  # nothing of it can be wrong
        raise

    @settings(max_examples=each, deadline=None, database=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def check(case: schemathesis.Case) -> None:
        response = case.call()
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    try:
        check()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise
