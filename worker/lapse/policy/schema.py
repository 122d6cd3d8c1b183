"""The shape of the policy file: every table, key, type, unit and default. The JSON Schema is made from it. No I/O.

Whatever concerns one key alone is said here; what concerns several is in ``lapse.policy.checks``. Keys without a
default are optional to pydantic wherever a missing one is better explained there.
"""

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lapse import durations
from lapse.policy import tables
from lapse.policy.fields import (
    BaseUrl,
    ChildName,
    Duration,
    KindNames,
    Name,
    OrUnlimited,
    ProviderType,
    Proxy,
    Rate,
    Recogniser,
    Text,
    Variable,
)
from lapse.policy.positions import Path
from lapse.policy.tables import Keep, Pace, Share, Table, Wall
from lapse.registry import keys

Anchor = Literal["created_at", "last_active_at"]
SECONDS_PER = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
"""The units of ``expires_after``."""


def _written(value: object) -> Any:
    """Return a default as the file would spell it."""
    return value


class Model(BaseModel):
    """What all tables have in common: unknown keys are errors, and nothing is converted."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class ProviderTable(Model):
    """One account at one provider."""

    model_config = ConfigDict(json_schema_extra={"required": ["type"]})

    type: ProviderType | None = None
    """The API it speaks. "openai" is any server compatible with OpenAI's."""
    base_url: BaseUrl | None = None
    """Where the API is, version included. Type openai: https://api.openai.com/v1 unless given."""
    api_key_env: Variable | None = None
    """Name of the environment variable that holds the key."""
    api_key_file: Text | None = None
    """File that holds the key; read again when it changes."""
    auth: Literal["entra"] | None = None
    """Another way to authenticate, in place of a key."""
    rate: Rate = _written("60/m")
    """Requests per s, m or h, all kinds of requests and all workers together. Or "unlimited"."""
    concurrency: int = Field(default=16, ge=1, le=1000)
    """Requests in flight in each worker process."""
    not_found: list[Recogniser] = []
    """Further texts by which this server says that an object does not exist; {id} stands for its id."""
    ids: Literal["opaque"] | None = None
    """"opaque": a proxy that answers with other ids than it is asked for. Ids in its confirmations are not compared."""
    api_version: Text | None = None
    """Version of the API, for providers that want one."""
    organization: Text | None = None
    """Organization that requests are made for."""
    project: Text | None = None
    """Project that requests are made for."""
    proof: Literal["canary"] | None = None
    """"canary": where no living id can show that this is the right place, make an empty object and delete it."""
    allow_plaintext: bool = False
    """Allow an http:// base_url on another machine. Keys and ids then travel readable."""
    proxy: Proxy | None = Field(default=None, repr=False)
    """HTTP proxy that requests go through, such as "http://HOST:3128". Or "env": as HTTPS_PROXY and NO_PROXY say."""
    ca_file: Text | None = None
    """File with the certificate authorities of this provider, in PEM. Else the system's."""


class Limits(Model):
    """Limits of every policy that does not state its own."""

    max_deletions: Annotated[Pace, OrUnlimited()] | None = _written({"amount": 5000, "window": "1h"})
    """Deletions of one policy per window; then it waits for the next window. Or "unlimited"."""
    max_newly_due: Annotated[Share, OrUnlimited()] | None = _written({"percent": 20, "at_least": 100})
    """What an edit of a policy may make due at once before it waits for lapse approve. Or "unlimited"."""
    max_already_gone: Annotated[Wall, OrUnlimited()] | None = _written({"percent": 50, "at_least": 20})
    """How many of a policy's last answers may say that the object is gone already. Or "unlimited"."""


class OrphanTable(Model):
    """Deletes what the provider lists, what is ours, and what nothing live uses."""

    min_age: Duration
    """Time since its creation before an object can be an orphan."""
    seen: int = Field(default=3, ge=2, le=1000)
    """Complete listings in a row that have to show it unused."""
    max_share: Annotated[Share, OrUnlimited()] | None = _written({"percent": 20, "at_least": 10})
    """How much of one listing may be orphaned; if it is more, nothing is deleted. Or "unlimited"."""
    uses: Literal["none"] | None = None
    """"none": the application never names what it uses, and all unused objects are to go."""


class ExpiresAfter(Model):
    """OpenAI's own spelling of a ttl and an anchor."""

    anchor: Anchor
    """The time the policy counts from."""
    days: int | None = Field(default=None, ge=1)
    """Days after the anchor."""
    hours: int | None = Field(default=None, ge=1)
    """Hours after the anchor."""
    minutes: int | None = Field(default=None, ge=1)
    """Minutes after the anchor."""
    seconds: int | None = Field(default=None, ge=1)
    """Seconds after the anchor."""


class Policy(Model):
    """When objects of one or several kinds of one provider are deleted."""

    model_config = ConfigDict(
        json_schema_extra={
            "required": ["kind"],
            "anyOf": [{"required": ["ttl", "anchor"]}, {"required": ["expires_after"]}, {"required": ["orphan"]}],
        }
    )

    provider: Text | None = None
    """Name of the provider. May be left out while exactly one is configured."""
    kind: KindNames | None = None
    """One kind or several, in singular or plural."""
    ttl: Duration | None = None
    """Time after the anchor at which an object is due. There is no default."""
    anchor: Anchor | None = None
    """The time the ttl counts from: created_at, or last_active_at, which every register and touch moves."""
    expires_after: ExpiresAfter | None = None
    """OpenAI's own spelling, in place of ttl and anchor."""
    max_age: Duration | None = None
    """Time after creation that no object outlives, however often it is touched."""
    orphan: OrphanTable | None = None
    """Delete what nothing live uses, in place of a ttl. Only for kinds that the provider lists."""
    keep: list[Keep] = []
    """What is never deleted, by name or metadata. One match is enough."""
    cascade: dict[ChildName, Literal["delete", "leave", "protect"]] = {}
    """What becomes of what belongs to a deleted object, by kind. Default: delete for conversation_item, else leave."""
    mode: Literal["observe", "enforce"] = "observe"
    """observe plans and counts, and deletes nothing; enforce deletes."""
    max_deletions: Annotated[Pace, OrUnlimited()] | None = None
    """As in [limits]; unless stated, that one holds."""
    max_newly_due: Annotated[Share, OrUnlimited()] | None = None
    """As in [limits]; unless stated, that one holds."""
    max_already_gone: Annotated[Wall, OrUnlimited()] | None = None
    """As in [limits]; unless stated, that one holds."""
    formerly: list[Name] = []
    """Old names of this policy: what was registered under them is adopted."""
    touches: Literal["none"] | None = None
    """"none": the application never touches these objects, and last_active_at is still meant as anchor."""
    expect_gone: bool = False
    """These objects also go by themselves, so that one being gone already is no news."""
    cancel: bool = False
    """Cancel what still runs on an object before deleting it."""
    every: Duration | None = None
    """Time between two sweeps of this policy. Default: as in [schedule]."""


class PolicyFile(Model):
    """lapse's policy file, config/retention.toml."""

    registry: tables.RegistrySection = tables.RegistrySection()
    celery: tables.CelerySection = tables.CelerySection()
    schedule: tables.ScheduleSection = tables.ScheduleSection()
    sweep: tables.SweepSection = tables.SweepSection()
    audit: tables.AuditSection = tables.AuditSection()
    erasure: tables.ErasureSection = tables.ErasureSection()
    receipts: tables.ReceiptsSection = tables.ReceiptsSection()
    limits: Limits = Limits()
    providers: dict[Name, ProviderTable] = {}
    """The accounts, each under a name of its own: [providers.NAME]."""
    policies: dict[Name, Policy] = {}
    """The policies, each under a name of its own: [policies.NAME]."""


NAMED: dict[str, type[Model]] = {"providers": ProviderTable, "policies": Policy}
"""The tables that hold one table for each name."""
SECTIONS: dict[str, Any] = {key: field.annotation for key, field in PolicyFile.model_fields.items() if key not in NAMED}
"""The tables there is one of."""
INNER: dict[str, type[Model | Table]] = {
    "orphan": OrphanTable,
    "keep": Keep,
    "expires_after": ExpiresAfter,
    "max_deletions": Pace,
    "max_newly_due": Share,
    "max_already_gone": Wall,
    "max_share": Share,
    "rate": Pace,
}
"""The tables that are a key's value."""


def keys_of(table: type[Model | Table]) -> Collection[str]:
    """Return the keys that a table may have."""
    return [field.name for field in fields(table)] if issubclass(table, Table) else table.model_fields


_PLACES = [
    (key, f"[{section}]" if section in SECTIONS else f"[{section}.NAME]")
    for section, table in (NAMED | SECTIONS).items()
    for key in keys_of(table)
]
ELSEWHERE: dict[str, str] = {
    key: " or ".join(place for other, place in _PLACES if other == key) for key, _place in _PLACES
}
"""Key -> the tables it belongs into."""


def keys_at(path: Path) -> Collection[str]:
    """Return the keys that the table at a path of the file may have."""
    named = [step for step in path if isinstance(step, str)]
    if not named:
        return PolicyFile.model_fields
    # A provider may be called rate.
    inner = INNER.get(named[-1]) if len(named) > (2 if named[0] in NAMED else 1) else None
    return keys_of(inner or (SECTIONS | NAMED)[named[0]])


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7, which TOML editors understand) of the policy file."""
    made: dict[str, Any] = _plain(PolicyFile.model_json_schema(ref_template="#/definitions/{model}"))
    made["definitions"] = {_called(name): node for name, node in made.pop("$defs").items()}
    for named in NAMED:
        made["properties"][named]["propertyNames"] = {"pattern": f"^{keys.NAME.pattern}$"}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "lapse policy file", **made}


def _plain(node: Any) -> Any:
    """Return a schema without what TOML cannot say (null, seconds) and what only repeats a key's name (title)."""
    if isinstance(node, list):
        return [_plain(inner) for inner in node if inner != {"type": "null"}]
    if isinstance(node, str) and node.startswith("#/definitions/"):
        return _called(node)
    if not isinstance(node, dict):
        return node
    kept = {key: _plain(inner) for key, inner in node.items() if not _noise(key, inner, node)}
    if isinstance(kept.get("default"), float):
        kept["default"] = durations.show(kept["default"])
    choices = kept.get("anyOf", [])
    if len(choices) == 1:
        del kept["anyOf"]
        kept = choices[0] | kept
    return kept


def _called(definition: str) -> str:
    return definition.removesuffix("Table").removesuffix("Section")


def _noise(key: str, inner: object, node: Mapping[str, object]) -> bool:
    if key == "title":
        return isinstance(inner, str)
    # The default of a whole section, which has no description, says nothing that its keys do not say.
    return key == "default" and (inner is None or ("$ref" in node and "description" not in node))
