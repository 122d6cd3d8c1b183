"""Where a provider of each type may be, and what its table takes."""

from datetime import date

import pytest

from lapse.errors import ConfigError
from lapse.policy import Account, Config, parse

POLICY = """
[policies.chat]
kind = "thread"
ttl = "30d"
anchor = "created_at"
"""
FOUNDRY = "https://res.services.ai.azure.com/api/projects/p"
BEFORE, AFTER = date(2027, 3, 30), date(2027, 3, 31)


def loaded(type_: str, base_url: str, *more: str, today: date = BEFORE) -> Config:
    lines = [f'type = "{type_}"', f'base_url = "{base_url}"', *(more or ['api_key_env = "KEY"'])]
    return parse("[providers.p]\n" + "\n".join(lines) + POLICY, "retention.toml", {}, today=today)


def account(type_: str, base_url: str, *more: str) -> Account:
    return loaded(type_, base_url, *more).accounts["p"]


def refused(type_: str, base_url: str, *more: str, today: date = BEFORE) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(type_, base_url, *more, today=today)
    return str(caught.value)


@pytest.mark.parametrize(
    ("type_", "base_url", "more", "version"),
    [
        ("foundry", FOUNDRY, ('auth = "entra"',), "v1"),
        ("foundry", f"{FOUNDRY}/", ('auth = "entra"', 'api_version = "2025-05-01"'), "2025-05-01"),
        ("foundry", "https://gateway.example.com/agents", ('auth = "entra"',), "v1"),
        ("foundry", "http://127.0.0.1:8000/foundry", ('api_key_file = "/run/token"',), "v1"),
        ("azure-openai", "https://res.openai.azure.com/openai/v1", (), None),
        ("azure-openai", "https://res.openai.azure.com/openai/v1", ('auth = "entra"',), None),
        ("azure-openai", "https://res.openai.azure.com/openai", ('auth = "entra"', 'api_version = "v"'), "v"),
        ("azure-openai", "https://res.openai.azure.us/openai/v1", (), None),
        ("azure-openai", f"{FOUNDRY}/openai/v1", ('auth = "entra"',), None),
        ("azure-openai", "https://gateway.example.com/llm", (), None),
        ("langgraph", "https://deployment.us.langgraph.app", (), None),
        ("langgraph", "http://localhost:2024", (), None),
    ],
)  # fmt: skip
def test_what_is_right_is_taken(type_: str, base_url: str, more: tuple[str, ...], version: str | None) -> None:
    made = account(type_, base_url, *more)

    assert (type_, base_url.rstrip("/"), version) == (made.type, made.base_url, made.api_version)


KEY = 'api_key_env = "KEY"'


@pytest.mark.parametrize(
    ("type_", "base_url", "more", "said"),
    [
        ("azure-openai", "https://res.openai.azure.com/openai/deployments/gpt", (KEY,), "is one deployment"),
        ("azure-openai", "https://res.openai.azure.com/openai/deployments/gpt/", (KEY,), "is one deployment"),
        ("azure-openai", "https://gateway.example.com/openai/deployments/gpt", (KEY,), "is one deployment"),
        ("azure-openai", "https://res.openai.azure.com", (KEY,), '"https://RESOURCE.openai.azure.com/openai/v1"'),
        ("azure-openai", "https://res.openai.azure.com/v1", (KEY,), "is not where this API is"),
        ("azure-openai", "https://res.openai.azure.com/openai", (KEY,), 'or end base_url in "/openai/v1"'),
        ("azure-openai", "http://res.openai.azure.com/openai/v1", (KEY,), "use https"),
        ("azure-openai", "https://res.openai.azure.com/openai/v1?api-version=1", (KEY,), "has a query"),
        ("azure-openai", "https://u:p@res.openai.azure.com/openai/v1", (KEY,), "credentials belong into"),
        ("azure-openai", "https://res.openai.azure.com/openai/v1", (KEY, 'project = "p"'), "that type azure-openai"),
        ("azure-openai", "https://res.openai.azure.com/openai/v1", ('rate = "1/s"',), '"AZURE_OPENAI_API_KEY"'),
        ("azure-openai", "https://res.openai.azure.com/openai/v1", ('rate = "1/s"',), 'or state auth = "entra"'),
        ("foundry", "https://res.services.ai.azure.com", (KEY,), "/api/projects/PROJECT"),
        ("foundry", f"{FOUNDRY}/openai/v1", (KEY,), "is not where this API is"),
        ("foundry", FOUNDRY, (KEY, 'auth = "entra"'), "stands beside api_key_env"),
        ("foundry", "http://10.0.0.1/api", ('auth = "entra"',), "use https"),
        ("langgraph", "https://h", ('auth = "entra"',), "type langgraph knows: use api_key_env, or api_key_file"),
        ("langgraph", "https://h", (KEY, 'api_version = "v1"'), "type langgraph knows: leave it out"),
        ("langgraph", "http://10.0.0.1:2024", (KEY,), "use https"),
        ("langgraph", "https://h", ('rate = "1/s"',), '"LANGSMITH_API_KEY"'),
    ],
)
def test_what_is_wrong_is_told_with_the_fix(type_: str, base_url: str, more: tuple[str, ...], said: str) -> None:
    told = refused(type_, base_url, *more)

    assert said in told
    assert "u:p" not in told


@pytest.mark.parametrize("type_", ["azure-openai", "foundry", "langgraph"])
def test_only_openai_is_where_it_always_is(type_: str) -> None:
    with pytest.raises(ConfigError, match="base_url: is missing: write where the account is, such as"):
        parse(f'[providers.p]\ntype = "{type_}"\n{KEY}{POLICY}', "retention.toml", {})


def test_a_base_url_that_is_wrong_by_itself_is_not_missing_too() -> None:
    told = refused("langgraph", "ftp://h", KEY)

    assert "begins with https://" in told
    assert "missing" not in told


def test_an_endpoint_is_refused_from_the_day_of_its_sunset_on() -> None:
    entra = 'auth = "entra"'

    assert loaded("foundry", FOUNDRY, entra, today=BEFORE).rules
    told = refused("foundry", FOUNDRY, entra, today=AFTER)

    assert "res.services.ai.azure.com shut threads down on 2027-03-31; its successor is conversation" in told
    assert loaded("foundry", "https://gateway.example.com", entra, today=AFTER).rules
