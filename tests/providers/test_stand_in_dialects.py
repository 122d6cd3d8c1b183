"""lapse at the stand-in's other dialects, and Entra tokens from its identity endpoint through azure-identity itself."""

import asyncio
from dataclasses import dataclass, field

import pytest

from lapse.providers.outcomes import Outcome
from lapse.providers.provider import Provider
from lapse.sandbox import Sandbox
from providers.actions import Budget, remove
from providers.conftest import KEY, MakeProvider
from providers.test_entra import Token

PLACES = {"foundry": ("foundry", "v1"), "langgraph": ("langgraph", None)}


def at(sandbox: Sandbox, make: MakeProvider, type_: str, **changes: object) -> Provider:
    path, version = PLACES[type_]
    return make(f"{sandbox.root}/{path}", type=type_, api_version=version, **changes)


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        ("foundry", "thread"),
        ("foundry", "assistant"),
        ("foundry", "file"),
        ("foundry", "vector_store"),
        ("langgraph", "thread"),
        ("langgraph", "assistant"),
    ],
)
async def test_once_and_again(type_: str, kind: str, sandbox: Sandbox, make: MakeProvider) -> None:
    gone, other = sandbox.seed(kind, 2, dialect=type_)
    provider = at(sandbox, make, type_)

    verdicts = [await remove(provider, kind, gone) for _ in range(2)]

    assert [Outcome.DELETED, Outcome.ALREADY_GONE] == [verdict.outcome for verdict in verdicts]
    alive = sandbox.alive(kind, dialect=type_)
    assert other in alive
    assert gone not in alive
    assert {"deleted"} == {each["answer"] for each in sandbox.requests() if each["executed"]}


@pytest.mark.parametrize(("type_", "kind"), [("foundry", "thread"), ("foundry", "file"), ("langgraph", "thread")])
async def test_everything_is_listed(type_: str, kind: str, sandbox: Sandbox, make: MakeProvider) -> None:
    ids = sandbox.seed(kind, 2100, dialect=type_, created_at=1_790_000_000)
    provider = at(sandbox, make, type_)

    listing = await provider.listing(provider.kinds[kind], Budget())

    assert listing.complete
    assert set(ids) == {item.id for item in listing.items}
    assert len(ids) == len(listing.items)
    assert {1_790_000_000.0} == {item.created_at for item in listing.items}


async def test_the_system_assistant_is_neither_listed_nor_deleted(sandbox: Sandbox, make: MakeProvider) -> None:
    (system,) = sandbox.alive("assistant", dialect="langgraph")
    (mine,) = sandbox.seed("assistant", dialect="langgraph", name="mine")
    provider = at(sandbox, make, "langgraph")

    listing = await provider.listing(provider.kinds["assistant"], Budget())
    verdict = await remove(provider, "assistant", system)

    assert [mine] == [item.id for item in listing.items]
    assert verdict.outcome is Outcome.KEPT
    assert sandbox.alive("assistant", dialect="langgraph") == {system, mine}


async def test_a_thread_is_deleted_once_it_is_idle(sandbox: Sandbox, make: MakeProvider) -> None:
    (thread,) = sandbox.seed("thread", dialect="langgraph", status="busy")
    (run,) = sandbox.alive("run", dialect="langgraph")
    provider = at(sandbox, make, "langgraph")

    busy = await remove(provider, "thread", thread)
    await provider.part("read", "POST", provider.kinds["thread"], thread, f"/runs/{run}/cancel")
    idle = await remove(provider, "thread", thread)

    assert (Outcome.CONFLICT, Outcome.DELETED) == (busy.outcome, idle.outcome)
    assert sandbox.alive("run", dialect="langgraph") == set()


@pytest.mark.parametrize("type_", PLACES)
async def test_an_unrecognised_404_meets_a_probe(type_: str, sandbox: Sandbox, make: MakeProvider) -> None:
    """The endpoint is there, or it is not: with the wrong path in base_url every id would be missing."""
    provider = at(sandbox, make, type_)
    path, version = PLACES[type_]
    elsewhere = make(f"{sandbox.root}/{path}/v2", type=type_, api_version=version)
    thread = provider.kinds["thread"]

    there, nowhere = await provider.probe(thread), await elsewhere.probe(thread)

    assert there is not None
    assert nowhere is not None
    assert (200, 404) == (there.status, nowhere.status)


@dataclass(slots=True)
class Identity:
    """Hands out the stand-in's tokens: those that ``ends`` names, in seconds from now, one after the other."""

    sandbox: Sandbox
    ends: list[float]
    given: list[str] = field(default_factory=list)

    async def get_token(self, *_scopes: str) -> Token:
        seconds = self.ends[min(len(self.given), len(self.ends) - 1)]
        self.given.append(self.sandbox.token(seconds))
        # This side's clock is behind: the token that the provider takes for ended has a minute left here.
        return Token(self.given[-1], int(seconds + 60 + NOW))

    async def close(self) -> None:
        pass


NOW = 1_795_000_000.0


async def test_a_token_that_ends_in_mid_sweep_is_renewed(sandbox: Sandbox, make: MakeProvider) -> None:
    """Twenty deletions at once: all are refused once, all are done, and one new token is fetched."""
    ids = sandbox.seed("thread", 20, dialect="foundry")
    identity = Identity(sandbox, [-1, 3600])
    given = {"api_key_env": None, "auth": "entra", "tokens": identity, "clock": lambda: NOW}
    provider = at(sandbox, make, "foundry", **given)

    verdicts = await asyncio.gather(*(remove(provider, "thread", id_) for id_ in ids))

    assert {Outcome.DELETED} == {verdict.outcome for verdict in verdicts}
    assert sandbox.alive("thread", dialect="foundry") == set()
    assert len(identity.given) == 2
    assert {401, 200} == {each["status"] for each in sandbox.requests()}


async def test_azure_identity_finds_a_managed_identity(
    sandbox: Sandbox, make: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an App Service: the real library, the real requests, a token endpoint of the stand-in's."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{sandbox.root}/sandbox/identity")
    monkeypatch.setenv("IDENTITY_HEADER", "secret")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    (thread,) = sandbox.seed("thread", dialect="foundry")
    provider = at(sandbox, make, "foundry", api_key_env=None, auth="entra")
    before = await provider.identity()

    verdict = await remove(provider, "thread", thread)

    assert verdict.outcome is Outcome.DELETED
    assert sandbox.alive("thread", dialect="foundry") == set()
    assert await provider.identity() == before
    assert KEY not in str(sandbox.requests())


async def test_without_an_identity_nothing_is_sent(
    sandbox: Sandbox, make: MakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    (thread,) = sandbox.seed("thread", dialect="foundry")

    verdict = await remove(at(sandbox, make, "foundry", api_key_env=None, auth="entra"), "thread", thread)

    assert verdict.outcome is Outcome.AUTH
    assert "no Entra token for provider 'openai': " in verdict.detail
    assert sandbox.requests() == []
