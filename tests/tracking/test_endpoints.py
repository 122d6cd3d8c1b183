"""The tables of paths against the packages they were read in: whatever changes something has a row or a reason."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import azure.ai.agents
import langgraph_sdk
import openai
import pytest

from lapse.providers.kinds.dialect import Dialect
from lapse.providers.kinds.langgraph import LANGGRAPH_DIALECT
from lapse.providers.kinds.openai import OPENAI_DIALECT
from lapse.tracking.apis.endpoints import Endpoints, Name
from lapse.tracking.apis.langgraph import LANGGRAPH_ENDPOINTS
from lapse.tracking.apis.openai import OPENAI_ENDPOINTS

CHANGES = {"POST", "PUT", "PATCH", "DELETE"}
AZURE = (r'_url = "([^"]*)".*?HttpRequest\(method="(\w+)"', r"def build_\w+\(")


def openai_calls() -> Iterator[tuple[str, str]]:
    """Return (method, path) of every call in the OpenAI SDK's own resources."""
    trees = [ast.parse(path.read_text()) for path in sorted((Path(openai.__file__).parent / "resources").rglob("*.py"))]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    methods = {"_post": "POST", "_put": "PUT", "_patch": "PATCH", "_delete": "DELETE"}
    for call in calls:
        method = methods.get(call.func.attr) if isinstance(call.func, ast.Attribute) else None
        first = call.args[0]
        given = first.args[0] if isinstance(first, ast.Call) and first.args else first
        if method and isinstance(given, ast.Constant):
            yield method, str(given.value).partition("?")[0]


def langgraph_calls() -> Iterator[tuple[str, str]]:
    """Return (method, path) of every call in LangGraph's SDK."""
    for path in sorted((Path(langgraph_sdk.__file__).parent / "_async").glob("*.py")):
        text = path.read_text()
        for method, given in re.findall(r'http\.(post|put|patch|delete)\(\s*f?"([^"]*)"', text):
            yield method.upper(), re.sub(r"\{[^}]*?\((?:self\.)?(\w+)\)\}", r"{\1}", given)
        for given in re.findall(r'f?"(/[^"]*runs/(?:stream|wait))"', text):
            yield "POST", re.sub(r"\{[^}]*?\((\w+)\)\}", r"{\1}", given)


def foundry_calls() -> Iterator[tuple[str, str]]:
    """Return (method, path) of every call in the client of Foundry's classic agents."""
    text = (Path(azure.ai.agents.__file__).parent / "operations" / "_operations.py").read_text()
    for one in re.split(r"\ndef build_", text)[1:]:
        path, method = re.search(r'_url = "([^"]*)"', one), re.search(r'HttpRequest\(method="(\w+)"', one)
        if path and method:
            yield method[1], path[1]


def unexplained(endpoints: Endpoints, calls: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the calls that change something and have neither a row nor a reason."""
    return sorted(
        {
            (method, path)
            for method, path in calls
            if method in CHANGES
            and endpoints.find(method, path) is None
            and not any(path == start or path.startswith(start + "/") for start in endpoints.reasons)
        }
    )


@pytest.mark.parametrize(
    ("endpoints", "calls", "least"),
    [
        (OPENAI_ENDPOINTS, openai_calls, 150),
        (LANGGRAPH_ENDPOINTS, langgraph_calls, 20),
        (OPENAI_ENDPOINTS, foundry_calls, 20),
    ],
)
def test_every_call_that_changes_something_has_a_row_or_a_reason(
    endpoints: Endpoints, calls: Callable[[], Iterator[tuple[str, str]]], least: int
) -> None:
    found = list(calls())

    assert len({call for call in found if call[0] in CHANGES}) >= least
    assert unexplained(endpoints, iter(found)) == []


def test_a_call_without_either_is_found() -> None:
    assert unexplained(LANGGRAPH_ENDPOINTS, iter([("POST", "/agents"), ("GET", "/agents")])) == [("POST", "/agents")]


@pytest.mark.parametrize(
    ("endpoints", "dialect"), [(OPENAI_ENDPOINTS, OPENAI_DIALECT), (LANGGRAPH_ENDPOINTS, LANGGRAPH_DIALECT)]
)
def test_every_kind_is_created_and_its_deletion_is_confirmed_as_workers_have_it(
    endpoints: Endpoints, dialect: Dialect
) -> None:
    created = {row.creates for row in endpoints.rows if row.creates}
    deleting = {row.path: row for row in endpoints.rows if row.deletes}

    assert created == set(dialect.kinds)
    for kind in dialect.kinds.values():
        (row,) = [row for path, row in deleting.items() if path.startswith(f"{kind.path}/")]
        assert endpoints.find("DELETE", f"{kind.path}/x") == (row, (Name(kind.name, "x"),))
        assert row.confirmed_by == ("" if kind.no_content else kind.deleted_object)
