"""Every Redis key name. No I/O.

A slot is one (provider, kind): all its keys carry the hash tag ``{provider:kind}``, so every script touches one slot.
A partition is one policy of a slot. Lua builds the names of a slot's other partitions from the same prefix: the
suffixes here and those in ``lua/*.lua`` are compared by ``tests/unit/test_keys.py``.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from lapse.errors import InvalidResource

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
ID = re.compile(r"[A-Za-z0-9_.:=+-]{1,1024}")
REQUEST = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # a request's id, as facts.request_id returns it


def _named() -> tuple[str, ...]:
    """Return every key that has a name up to here, in order."""
    return tuple(value for name, value in globals().items() if name.isupper() and isinstance(value, str))


# Sorted sets of a partition, scores in milliseconds of Redis TIME.
FRESH = "fresh"  # never touched: creation
ACTIVE = "active"  # touched: last activity
CREATED = "created"  # touched: creation
EXPLICIT = "explicit"  # own expiry
CAPPED = "capped"  # own expiry: creation, for max_age alone
CLAIMS = "claims"  # leased to a worker: lease deadline
WAITING = "waiting"  # backed off: next attempt
PARKED = "parked"  # held or referenced: parked since
KEPT = "kept"  # a keep rule matched: when to look again
SUSPECTS = "suspects"  # a worker crashed on it: next attempt, alone
TRIED = "tried"  # an orphan whose deletion failed: next attempt, if a listing shows it again
QUARANTINE = "quarantine"  # waits for an operator: quarantined since
SIGHTINGS = "sightings"  # hash: id -> how often in a row complete listings showed it as an orphan
RULES = "rules"  # hash: the rules last swept with, published to clients
USED = "used"  # then the worker's name; text with a Redis TTL: the rules this worker swept with
PARTITION_KEYS = _named()
STANDING = (FRESH, ACTIVE, EXPLICIT, CLAIMS, WAITING, SUSPECTS, TRIED, PARKED, KEPT, QUARANTINE)
"""Where each id of a partition stands once."""

# Keys of a slot.
POLICIES = "policies"  # set: every policy name ever registered under
ASIDE = "aside"  # hash: id -> record of what stands outside the due indexes
FACTS = "facts"  # hash: id -> uses, subject, labels
SUBJECTS = "subjects"  # sorted set, all scores 0: "<subject>\x1f<id>"
SUBJECT_HOLDS = (
    "subject_holds"  # hash: subject -> its hold, and requests to erase it: the slot's copy of the namespace's
)
SUBJECT_INDEX = "subject_index"  # hash: how far older registrations can be found by their subject
JOINED = "joined"  # set: subjects with a request to erase them of which something was registered since a worker looked
ERASED = "erased"  # then a request's id; hash: id -> what became of it, as workers and operators know it
WITHDRAWN = "withdrawn"  # then a request's id; hash: id -> that an application forgot it, or had it deleted
HOLDS = "holds"  # hash: id -> hold
HOLD_ENDS = "hold_ends"  # sorted set: holds that end by themselves
EDGES = "edges"  # sorted set, all scores 0: "target|provider|kind|source"
REFERENCED = "referenced"  # hash: id -> when last named in a uses
LEAVING = "leaving"  # hash: edge -> who is about to remove it
RELEASED = "released"  # hash: source id -> edges still to remove in other slots
TOMBSTONES = "tombstones"  # sorted set: settled ids: when
DELETED = "deleted"  # sorted set: ids whose deletion was confirmed: when, and under which claim
GRAVES = "graves"  # hash: id -> record of an already_gone one, for undo
FORGOTTEN = "forgotten"  # sorted set: ids an application forgot: when
UNLISTED = "unlisted"  # hash: a forgotten id that a complete listing did not show -> when it was forgotten, and listed
PROTECTED = "protected"  # hash: holds, edges, forgotten -> how often something was put there; so does a marker in each
LAST_SAID = "last_said"  # sorted set: "VERB|id": when an application last said it, for longer than a spool may wait
COUNTERS = "counters"  # hash: every counter of the slot
SAID = "said"  # hash: what applications say once: the first touch under a policy, the first edge, uses left out
MARKS = "marks"  # hash: what workers know once: the account, the last token, proofs
HALTS = "halts"  # hash: "policy|reason" -> why, since, plan
AUDIT = "audit"  # stream: intents and outcomes
ACTS = "acts"  # stream: holds, their ends and forgotten ids as applications said them; they go to the audit from here
CHAIN = "chain"  # text: the last line of the audit that a sink confirmed, and its mac
MOVER = "mover"  # text with a Redis TTL: which worker moves the audit stream now
LISTING = "listing"  # hash: the last complete listing
PRINCIPALS = "principals"  # hash: identity -> whether answers with this credential count, and since when
CLAIM = "claim"  # then a request's name; text with a Redis TTL: the reply to it
BATCH = "batch"  # then a batch's name; text with a Redis TTL: the reply to it
SETTLING = "settling"  # then a batch's name; hash with a Redis TTL: how far recording it has come
BLOCKED = "blocked"  # hash: id of a parent -> the child that stands in its way
MEMBERS = "members"  # then a parent's id; hash with a Redis TTL: what its list showed, and what was taken out of it
SEEN = "seen"  # then a parent's id; hash with a Redis TTL: children that were read, and that no keep rule keeps
SLOT_KEYS = tuple(name for name in _named() if name not in PARTITION_KEYS)

OUTCOMES = (WITHDRAWN, ERASED)
"""What says of a request's ids what became of them; what a later one says of an id is what counts."""

WORKERS_ALONE = frozenset(
    {
        CLAIMS,
        USED,
        DELETED,
        ERASED,
        COUNTERS,
        MARKS,
        HALTS,
        AUDIT,
        CHAIN,
        MOVER,
        LISTING,
        PRINCIPALS,
        BLOCKED,
        CLAIM,
        BATCH,
        SETTLING,
        MEMBERS,
        SEEN,
    }
)
"""What an application's Redis user may not touch: no script of an application does."""

NAMESPACE_KEYS: list[str] = []


def _wide(name: str) -> Callable[[str], str]:
    NAMESPACE_KEYS.append(name)
    return lambda namespace: f"{namespace}:{name}"


epoch = _wide("epoch")
"""Return the hash that holds the registry's epoch and sequence."""
nonces = _wide("nonces")
"""Return the hash of the nonces in stamps: each -> the first object seen with it, "provider|kind|id"."""
stamped = _wide("stamped")
"""Return the hash of stamps given out by applications: nonce -> "provider|kind|id", first without the id."""
slots = _wide("slots")
"""Return the set of "provider/kind" that applications wrote to: one that no worker knows is shown all the same."""
held_subjects = _wide("held_subjects")
"""Return the hash of the subjects that are held: subject -> hold; one field counts what was said of any."""
erasures = _wide("erasures")
"""Return the hash of requests to erase a subject: request id -> what was asked and how far it has come."""
erasing = _wide("erasing")
"""Return the text, with a Redis TTL, of which worker goes through the requests to erase subjects now."""
asked_erasures = _wide("asked_erasures")
"""Return the hash of requests that applications made and no worker has looked at yet: request id -> request."""
control = _wide("control")
"""Return the hash of the operators' switches: field ``*`` or a provider name -> who paused it and why."""
published = _wide("published")
"""Return the hash that worker processes publish: the names they know, beat's last tick, the config in use."""
workers = _wide("workers")
"""Return the hash in which each worker process says when it last swept, and by which version of the config."""

# What becomes of each key in an export: it is carried, or left out for a reason. docs/stored-format.md says the same.
LEFT_OUT = {
    USED: "what a worker process swept with; its next sweep says it",
    MOVER: "a lease on the audit stream; it ends within seconds",
    CLAIM: "a reply that is kept for a minute, for a worker that asks again",
    BATCH: "a reply that is kept for a while, for a worker that asks again",
    SETTLING: "how far one batch of a worker has come; that worker ends it where it began",
    MEMBERS: "what a parent's list showed; it is read again",
    SEEN: "what was read of a parent's children; it is read again",
    "workers": "heartbeats",
    "erasing": "which worker erases now; it ends within seconds",
}
# Claims are carried as leases that have ended: whoever held them works on another registry.
CARRIED = frozenset({*PARTITION_KEYS, *SLOT_KEYS, *NAMESPACE_KEYS, "flow"} - LEFT_OUT.keys())
LEFT_OUT_FIELDS = {
    "epoch": ("moved", "importing"),
    "published": ("beat", "tick", "kept", "replicas", "replicas_seen"),
    HALTS: ("*|moved", "*|half_imported"),
    COUNTERS: ("paid|",),
    RULES: ("paid|", "creations_cursor"),
    MARKS: ("importing_line",),
}
"""What fields of a carried hash begin with that are left out: heartbeats, marks of batches, what is said of a move."""


_BROKER = "broker"


@lru_cache(maxsize=1024)
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def name(value: object, what: str) -> str:
    """Return a provider, kind, policy or namespace name.

    Raises:
        InvalidResource: not 1 to 64 characters of ``[A-Za-z0-9_.-]`` that begin with a letter or digit.

    """
    if isinstance(value, str) and _is_name(value):
        return value
    raise InvalidResource(
        f"{what} {value!r}: use 1 to 64 characters of A-Z a-z 0-9 _ . - that begin with a letter or digit"
    )


def provider(value: object) -> str:
    """Return a provider's name.

    Raises:
        InvalidResource: as ``name`` does, or it is what the broker's keys are called by.

    """
    if value == _BROKER:
        raise InvalidResource(f"provider {value!r}: that is what Celery's own keys are called by; give it another name")
    return name(value, "provider")


def identifier(value: object) -> str:
    """Return a resource id.

    Raises:
        InvalidResource: not 1 to 1024 characters of ``[A-Za-z0-9_.:=+-]``, or ``.`` or ``..``.

    """
    if isinstance(value, str) and ID.fullmatch(value) and value not in {".", ".."}:
        return value
    raise InvalidResource(
        f"id {str(value)[:80]!r}: use 1 to 1024 characters of A-Z a-z 0-9 _ . : = + - and neither '.' nor '..'"
    )


def slot(namespace: str, provider: str, kind: str) -> str:
    """Return the prefix of every key of one (provider, kind), ending in a colon."""
    return f"{namespace}:{{{provider}:{kind}}}:"


def partition(namespace: str, provider: str, kind: str, policy: str) -> str:
    """Return the prefix of every key of one partition, ending in a colon."""
    return f"{slot(namespace, provider, kind)}{policy}:"


def throttle(namespace: str, provider: str) -> str:
    """Return the hash of a provider's request bucket, Retry-After and breaker."""
    return f"{namespace}:{{{provider}}}:flow"


def broker(namespace: str) -> str:
    """Return the prefix of every key of Celery's broker: one hash slot."""
    return f"{namespace}:{{{_BROKER}}}:"


def policies_named(members: Iterable[bytes | str]) -> list[str]:
    """Return the members of a slot's set of policies, in order; what is no name there is left out, as of slots."""
    return sorted(name for name in map(_readable, members) if _is_name(name))


def _readable(member: bytes | str) -> str:
    return member.decode(errors="replace") if isinstance(member, bytes) else member


def slots_named(members: Iterable[bytes | str]) -> list[tuple[str, str]]:
    """Return (provider, kind) of each member of that set.

    An application's Redis user may write anything there: what names no provider and kind is left out.
    """
    pairs = (name.partition("/") for name in sorted(map(_readable, members)))
    return [(provider, kind) for provider, _, kind in pairs if _is_name(provider) and _is_name(kind)]
