"""What a shipped PromQL expression asks for, and whether two exporters would double it."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

ONE_OF_MANY = {"max", "min"}
"""Aggregations that show what one exporter says, however many there are."""


def filled(expression: str) -> str:
    """Return a query as Grafana sends it, with everything chosen."""
    expression = re.sub(r"\$(deployment|provider|kind|policy)\b", ".*", expression)
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


def mixed(expression: str) -> list[str]:
    """Return the operations that would show several deployments as one: they do not keep the label."""
    return [str(node) for node in _nodes(promql_parser.parse(filled(expression))) if _mixes(node)]


def _nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.Call) and node.func.name == "absent":
        return
    yield node
    for name in ("lhs", "rhs", "expr"):
        if hasattr(node, name):
            yield from _nodes(getattr(node, name))
    for argument in getattr(node, "args", []):
        yield from _nodes(argument)


def _mixes(node: Any) -> bool:
    if isinstance(node, promql_parser.AggregateExpr):
        return not node.modifier or "deployment" not in node.modifier.labels
    if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
        labels = node.modifier.matching.labels
        return str(node.op) != "or" and "deployment" not in labels
    return False


def asked(expression: str) -> set[str]:
    """Return the metrics of lapse that an expression asks for, a histogram's by its own name."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name, _around in selectors(expression)}


def anywhere(scrape: bytes | str) -> str:
    """Return a scrape as it would be without the label that all series have."""
    text = scrape.decode() if isinstance(scrape, bytes) else scrape
    return re.sub(r'\{deployment="[^"]*",?', "{", text).replace("{} ", " ")
