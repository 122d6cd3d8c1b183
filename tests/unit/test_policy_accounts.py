"""Where a provider of each type may be, and what its table takes."""

from datetime import date

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, parse
from lapse.providers.account import Account

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
)
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


# --- one account under two names

ONE = "https://api.openai.com/v1"


def two(first: str, second: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong with a file of two providers, each a few lines without its type."""
    text = f'[providers.p]\ntype = "openai"\n{first}\n[providers.q]\ntype = "openai"\n{second}\n'
    try:
        parse(
            f'{text}{POLICY.replace("thread", "file")}provider = "p"\n', "retention.toml", environ or {}, today=BEFORE
        )
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize(
    ("first", "second", "environ"),
    [
        ('api_key_env = "K"', 'api_key_env = "K"', {}),
        ('api_key_env = "K"', f'api_key_env = "K"\nbase_url = "{ONE}"', {}),
        ('api_key_env = "K"', 'api_key_env = "K"\nbase_url = "HTTPS://API.openai.com:443/v1/"', {}),
        ('api_key_file = "/run/k"', 'api_key_file = "/run/k"', {}),
        ('api_key_env = "K"', 'api_key_env = "L"', {"K": "sk-same-0123456789", "L": " sk-same-0123456789\n"}),
        ('api_key_env = "K"\nproject = "a"', 'api_key_env = "K"\nproject = "a"', {}),
        ('api_key_env = "K"\nrate = "1/s"', 'api_key_env = "K"\nids = "opaque"', {}),
    ],
)
def test_one_account_under_two_names_is_refused(first: str, second: str, environ: dict[str, str]) -> None:
    """A hold under one name would be none under the other."""
    (problem,) = two(first, second, environ)

    assert "providers.q" in problem
    assert "is the account of [providers.p] once more" in problem
    assert "sk-same" not in problem


@pytest.mark.parametrize(
    ("first", "second", "environ"),
    [
        ('api_key_env = "K"', 'api_key_env = "L"', {}),
        ('api_key_env = "K"', 'api_key_env = "L"', {"K": "sk-one-0123456789", "L": "sk-two-0123456789"}),
        ('api_key_env = "K"', 'api_key_env = "L"', {"K": "", "L": ""}),
        ('api_key_env = "K"', 'api_key_env = "K"\nbase_url = "https://proxy.example.com/v1"', {}),
        ('api_key_env = "K"\nproject = "a"', 'api_key_env = "K"\nproject = "b"', {}),
        ('api_key_env = "K"\norganization = "a"', 'api_key_env = "K"', {}),
        ('api_key_file = "/run/k"', 'api_key_file = "/run/l"', {}),
        ('api_key_file = "K"', 'api_key_env = "K"', {}),
    ],
)
def test_two_accounts_are_two(first: str, second: str, environ: dict[str, str]) -> None:
    assert [] == two(first, second, environ)


def test_three_names_are_told_of_the_first_each() -> None:
    problems = two('api_key_env = "K"', 'api_key_env = "K"\n[providers.r]\ntype = "openai"\napi_key_env = "K"')

    assert ["q", "r"] == [problem.split("providers.")[1][0] for problem in problems]
    assert all("[providers.p]" in problem for problem in problems)


def test_one_identity_of_entra_at_one_place_is_one_account() -> None:
    text = "".join(
        f'[providers.{name}]\ntype = "foundry"\nbase_url = "{FOUNDRY}"\nauth = "entra"\n' for name in ("p", "q")
    )
    with pytest.raises(ConfigError, match="once more"):
        parse(f'{text}{POLICY}provider = "p"\n', "retention.toml", {}, today=BEFORE)


def test_a_table_without_a_place_or_a_key_is_nobodys_twin() -> None:
    problems = two("", "")

    assert ["api_key_env", "api_key_env"] == [problem.split(": ")[1].rpartition(".")[2] for problem in problems]
    text = "".join(f'[providers.{name}]\ntype = "foundry"\nauth = "entra"\n' for name in ("p", "q"))
    with pytest.raises(ConfigError) as caught:
        parse(f'{text}{POLICY}provider = "p"\n', "retention.toml", {}, today=BEFORE)
    assert "once more" not in str(caught.value)


def test_opaque_ids_are_other_rules() -> None:
    """They decide what counts as a confirmation."""
    plain = loaded("openai", "https://proxy.example.com/v1")
    opaque = loaded("openai", "https://proxy.example.com/v1", 'api_key_env = "KEY"', 'ids = "opaque"')

    assert ("opaque", None) == (opaque.accounts["p"].ids, plain.accounts["p"].ids)
    assert opaque.rules[0].digest != plain.rules[0].digest
