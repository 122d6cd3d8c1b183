"""What a shipped PromQL expression asks for, and whether two exporters would double it."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

ONE_OF_MANY = {"max", "min"}
"""Aggregations that show what one exporter says, however many there are."""


def filled(expression: str) -> str:
    """Return a query as Grafana sends it, with everything chosen."""
    expression = re.sub(r"\$(provider|kind|policy)\b", ".*", expression)
    return expression.replace("$__rate_interval", "5m").replace("$__range", "1h")


def selectors(expression: str) -> Iterator[tuple[str, Any]]:
    """Yield each selector's metric, and the aggregation that is nearest around it, or None."""
    yield from _below(promql_parser.parse(filled(expression)), None)


def _below(node: Any, around: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield str(node.name), around
        return
    if isinstance(node, promql_parser.AggregateExpr):
        around = node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if hasattr(node, name):
            yield from _below(getattr(node, name), around)
    for argument in getattr(node, "args", []):
        yield from _below(argument, around)


def doubled(expression: str) -> list[str]:
    """Return the metrics that two exporters would double, or that would keep the exporter's name."""
    return [name for name, around in selectors(expression) if not _shows_one(around)]


def _shows_one(around: Any) -> bool:
    if around is None or str(around.op) not in ONE_OF_MANY:
        return False
    kept = around.modifier.labels if around.modifier else []
    by = around.modifier is None or str(around.modifier.type) == "AggModifierType.By"
    return by and not {"instance", "job"} & set(kept)


def asked(expression: str) -> set[str]:
    """Return the metrics of lapse that an expression asks for, a histogram's by its own name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name, _around in selectors(expression)}
