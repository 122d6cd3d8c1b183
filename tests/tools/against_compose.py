"""The compose file against the Compose specification: ``make test-tools`` runs this with the package it needs."""

import importlib
import json
from typing import Any

import pytest

from support.deploykit import compose


@pytest.fixture
def specification() -> Any:
    return importlib.import_module("compose_spec").PyCompose


def test_the_compose_file_is_one(specification: Any) -> None:
    assert 8 == len(specification.from_json(json.dumps(compose())))


@pytest.mark.parametrize(("key", "value"), [("readonly", True), ("stop_grace_period", "soon"), ("ports", "9108")])
def test_what_is_none_would_be_seen(specification: Any, key: str, value: object) -> None:
    broken = compose()
    broken["services"]["worker"][key] = value
    with pytest.raises(ValueError, match=r".+"):
        specification.from_json(json.dumps(broken))
