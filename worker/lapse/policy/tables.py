"""The tables of the policy file that are used as they are read: pydantic reads them into these values. No I/O.

Nothing is checked where lapse makes one itself. Durations are seconds, None stands for ``"unlimited"`` or ``"off"``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from lapse.policy.fields import BrokerUrl, Duration, Name, Ramp, RegistryUrl, Sink, Text

Glob = Annotated[str, Field(min_length=1)]
Percent = Annotated[StrictFloat, Field(gt=0, lt=100, allow_inf_nan=False)]
Metadata = Annotated[
    dict[str, Glob],
    AfterValidator(lambda said: dict(sorted(said.items()))),
    Field(json_schema_extra={"default": {}}),
]
AUTO: Final = "auto"
UNSAID: dict[str, str] = {}
"""The metadata of a keep rule that says none: an empty table that is written is another."""


def _described(made: dict[str, Any], table: type) -> None:
    """Put a table's docstring into its JSON Schema, as not every version of pydantic does for a dataclass."""
    made["description"] = table.__doc__


@dataclass(frozen=True, slots=True)
class Table:
    """What these tables have in common: unknown keys are errors.

    That nothing is converted stands at each key: of a strict dataclass pydantic takes instances alone.
    """

    __pydantic_config__: ClassVar = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, json_schema_extra=_described
    )


@dataclass(frozen=True, slots=True)
class IamTable(Table):
    """A cache of AWS."""

    cache: Text
    """Name of the replication group, of the serverless cache, or of MemoryDB's cluster."""
    broker_cache: Text | None = None
    """The same of the broker, where that is another one with a URL of its own."""
    region: Text | None = None
    """Region that it is in. Else AWS_REGION, or what a profile says."""
    service: Literal["elasticache", "memorydb"] = "elasticache"
    """Whose it is."""
    serverless: StrictBool = False
    """Whether it is a serverless cache of ElastiCache."""


@dataclass(frozen=True, slots=True)
class RegistrySection(Table):
    """Where registrations are kept."""

    # Not shown: it may hold a password.
    url: RegistryUrl | None = field(default=None, repr=False)
    """Redis that holds the registry: redis://, rediss:// or unix://. Else the environment variable REDIS_URL."""
    namespace: Name = "lapse"
    """First part of every key name. Two deployments on one Redis need two."""
    deployment: Name | None = None
    """Label of all metrics, such as "production", where one Prometheus scrapes several. Else the registry's epoch."""
    witness_file: Text | None = None
    """File in which this host remembers the registry's epoch, so that a wiped Redis is noticed after a restart too.
    Else NAMESPACE.witness.json in LAPSE_STATE_DIR, or in systemd's state directory."""
    allow_volatile: StrictBool = False
    """Accept a Redis without persistence while a policy is in mode enforce."""
    replicas: Literal["auto"] | Annotated[StrictInt, Field(ge=0, le=9)] = AUTO
    """How many replicas have to have a hold before it is told, and a claim before its request is sent. "auto": one,
    where the server had any when workers first looked, else none."""
    tls_ca: Text | None = None
    """File with the certificate authorities for rediss://. Else the system's."""
    tls_verify: StrictBool = True
    """Whether the certificate of a rediss:// server is checked."""
    auth: Literal["entra", "iam"] | None = None
    """Another way to authenticate, in place of a password: Azure's Entra tokens, or the IAM of AWS."""
    iam: IamTable | None = None
    """What is authenticated to where auth is "iam"; the user is the URL's."""
    password_file: Text | None = None
    """File with the password of the URL's user, read anew for every connection: of a broker without one too."""
    sentinel_password_file: Text | None = None
    """The same for the Sentinels that the URL names."""


@dataclass(frozen=True, slots=True)
class CelerySection(Table):
    """Where Celery's wake-ups travel."""

    broker_url: BrokerUrl | None = field(default=None, repr=False)
    """Celery's broker: a Redis, amqp://, sqs:// ... Else the variable CELERY_BROKER_URL, else the registry."""
    broker_transport_options: dict[str, Any] = field(default_factory=dict, repr=False)
    """Options of Celery's transport to a broker that is no Redis, such as { region = "eu-west-1" } for SQS."""


@dataclass(frozen=True, slots=True)
class ScheduleSection(Table):
    """How often beat wakes the workers."""

    sweep: Duration = 60.0
    """Time between two sweeps of a policy with a ttl."""
    orphans: Duration = 3600.0
    """Time between two looks for orphans."""


@dataclass(frozen=True, slots=True)
class SweepSection(Table):
    """How one sweep works."""

    budget: Duration = 50.0
    """Time after which a sweep stops claiming more; the next one goes on."""
    lease: Duration = 120.0
    """Time a worker has to settle what it claimed before others may claim it again. At least 2s."""
    batch: Annotated[StrictInt, Field(ge=1, le=1000)] = 100
    """Ids claimed in one step."""
    max_attempts: Annotated[StrictInt, Field(ge=1, le=100)] = 8
    """Failed attempts after which an id goes to quarantine."""
    tombstones: Duration = 30 * 86400.0
    """Time for which what was settled is remembered, so that it can be explained and undone."""
    deleted_tombstones: Duration = 7 * 86400.0
    """Time for which an id whose deletion was confirmed is remembered, so that nothing is counted twice."""
    outbox: Text | None = None
    """Folder on a disk for confirmations that Redis did not take. Else LAPSE_STATE_DIR, else systemd's."""
    ramp: Ramp = 900.0
    """Time between the steps of a first enforcement: 10 deletions, then 10 % of what is due, then all. Or "off"."""


@dataclass(frozen=True, slots=True)
class AuditSection(Table):
    """Where the record of every intent and outcome goes."""

    sink: Sink = "stdout"
    """"stdout" or "file:PATH": one JSON object a line. A relative PATH is below LAPSE_STATE_DIR, where that is set."""
    max_pending: Annotated[StrictInt, Field(ge=1000, le=10_000_000)] = 100_000
    """Records that may wait for the sink in Redis for each provider and kind before deletions there stop."""
    key_file: Text | None = None
    """File with 32 bytes or more that seal the records: without them nobody can make a record that verifies."""
    subjects: Literal["hmac", "plain", "none"] = "hmac"
    """How records and lapse ls --json name whose data an id is: as a keyed hash, in clear, or not at all."""


@dataclass(frozen=True, slots=True)
class Pace(Table):
    """So many in each stretch of time."""

    amount: Annotated[StrictInt, Field(ge=1)]
    """How many."""
    window: Duration
    """In how much time."""


UsualRate = Annotated[Pace, Field(json_schema_extra={"default": {"amount": 10, "window": "1h"}})]


@dataclass(frozen=True, slots=True)
class ErasureSection(Table):
    """What becomes of requests to erase a subject."""

    by_application: StrictBool = False
    """Whether applications may ask too, with Registry.erase. Else they are refused; lapse erase may always."""
    rate: UsualRate = Pace(10, 3600.0)
    """How many requests of applications are taken up per window; the others wait. It cannot be unlimited."""
    late: Duration = 86400.0
    """Time after a request in which a registration of something created before it still belongs to it. 30d at most."""
    records: Duration = 400 * 86400.0
    """Time for which a completed request is remembered whole; then its subject and ids go, and counts stay."""
    due: Duration = 30 * 86400.0
    """Time from a request's receipt by which it has to be done, unless lapse erase --due says another. At most 92d."""


@dataclass(frozen=True, slots=True)
class ReceiptsSection(Table):
    """How receipts of erasures are signed."""

    key_file: Text | None = None
    """File with the Ed25519 seed that signs them, one of their own: not that of [audit]. Without it there are none."""


@dataclass(frozen=True, slots=True)
class Share(Table):
    """So much of all there is."""

    percent: Percent
    """Percent of all."""
    at_least: Annotated[StrictInt, Field(ge=1)]
    """Number that is always allowed, however few there are."""

    def exceeded(self, count: int, population: int) -> bool:
        """Return True if ``count`` out of ``population`` is more than this allows."""
        return count > self.allows(population)

    def allows(self, population: int) -> float:
        """Return how many out of ``population`` it allows."""
        return max(self.at_least, self.percent * population / 100)


@dataclass(frozen=True, slots=True)
class Wall(Share):
    """So many of the last answers of a policy, of which there are twice ``at_least``."""

    percent: Percent
    """Percent of all."""
    at_least: Annotated[StrictInt, Field(ge=1, le=1000)]
    """Number that is always allowed."""


@dataclass(frozen=True, slots=True)
class Keep(Table):
    """What is never deleted: every part given has to match."""

    # Shell globs, which mind upper and lower case.
    name: Glob | None = None
    """Pattern of the object's name, such as "prod-*"."""
    metadata: Metadata = field(default_factory=lambda: UNSAID)
    """Pattern of each metadata value that the object has to have."""

    def matches(self, name: str | None, metadata: Mapping[str, str]) -> bool:
        """Return True if an object with this name and metadata is to be kept; one without a name is called ``""``."""
        if self.name is not None and not fnmatchcase(name or "", self.name):
            return False
        return all(key in metadata and fnmatchcase(metadata[key], glob) for key, glob in self.metadata.items())
