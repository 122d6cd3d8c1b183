"""What an application may expect, checked against what the provider saw, what was audited and what was counted.

Nothing here asks lapse: due times follow from the application's own log.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.application import Said
from faults.traffic import Exchange

_SAMPLE = re.compile(r"^(lapse_\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
DONE = {"deleted", "already_gone"}


@dataclass(frozen=True, slots=True)
class Promise:
    """A policy as the application knows it: seconds to live, counted from creation or from the last use."""

    ttl: float
    idle: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """All that was seen from outside.

    Attributes:
        promises: The policies by name.
        log: What the application said.
        exchanges: The provider's traffic.
        audit: The audit records.
        metrics: What the exporter showed at the end.
        alive: The ids that the provider still has.
        waiting: Ids that an operator has to look at: registered, and in quarantine.
        texts: Everything that was written anywhere, to be searched for secrets.
        duplicates: How many may have been deleted again because somebody died in between.
        over: When the run was over: what was due a moment before had to be gone.

    """

    promises: Mapping[str, Promise]
    log: Sequence[Said]
    exchanges: Sequence[Exchange]
    audit: Sequence[Mapping[str, Any]]
    metrics: str
    alive: frozenset[str]
    over: float
    waiting: frozenset[str] = frozenset()
    texts: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    duplicates: int = 0


def violations(history: History) -> list[str]:
    """Return every promise that was broken, in words."""
    said: dict[str, list[Said]] = defaultdict(list)
    for one in history.log:
        said[one.id].append(one)
    deletes: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in history.exchanges:
        if exchange.method == "DELETE":
            deletes[exchange.id].append(exchange)
    return [
        *(text for id_, tried in deletes.items() for text in _too_much(history, id_, said[id_], tried)),
        *(text for id_, calls in said.items() for text in _too_little(history, id_, calls)),
        *_repeated(history, deletes),
        *_untrue(history, deletes),
        *_miscounted(history),
        *(
            f"{where} shows a secret"
            for where, text in history.texts.items()
            if any(s in text for s in history.secrets)
        ),
    ]


def _too_much(history: History, id_: str, calls: Sequence[Said], tried: Sequence[Exchange]) -> Iterable[str]:
    """Yield what was deleted that should have lived then."""
    if not calls:
        yield f"{id_} was never registered, and a DELETE was sent"
        return
    for exchange in tried:
        heard = [one for one in calls if one.acknowledged is not None and one.acknowledged < exchange.at]
        begun = [one for one in calls if one.sent < exchange.at]
        due = _due(history, heard, begun)
        if due is None or exchange.at < due:
            yield f"{id_}: DELETE {'at all' if due is None else f'{due - exchange.at:.3f} s early'}"
        if any(one.op == "forget" and one.answer == "ok" for one in heard):
            yield f"{id_}: DELETE after it was forgotten"
        if _held(heard, begun):
            yield f"{id_}: DELETE while it was held"


def _due(history: History, heard: Sequence[Said], begun: Sequence[Said]) -> float | None:
    """Return the earliest time at which an id may be deleted, by what was acknowledged; None: never."""
    if any(one.op == "expire" for one in begun):
        return 0.0
    registered = [one for one in begun if one.op == "register"]
    if not registered:
        return None
    first, last = registered[0], registered[-1]
    if "expires_in" in last.facts:
        return last.sent + float(last.facts["expires_in"])
    promise = history.promises.get(last.facts["policy"])
    if promise is None:
        return None
    uses = [one.sent for one in heard if one.op in {"register", "touch"} and one.answer == "ok"]
    return (max([*uses, first.sent]) if promise.idle else first.sent) + promise.ttl


def _held(heard: Sequence[Said], begun: Sequence[Said]) -> bool:
    holds = [one.sent for one in heard if one.op == "hold" and one.answer in {"ok", "unknown"}]
    return bool(holds) and not any(one.op == "unhold" and one.sent > max(holds) for one in begun)


def _too_little(history: History, id_: str, calls: Sequence[Said]) -> Iterable[str]:
    """Yield what should be gone and is not, and is not waiting for an operator either."""
    if id_ not in history.alive or id_ in history.waiting:
        return
    heard = [one for one in calls if one.acknowledged is not None]
    if not any(one.op == "register" for one in heard) or any(one.op == "forget" for one in calls):
        return
    unsure = [one for one in calls if one.acknowledged is None and one.op in {"hold", "touch", "register"}]
    if unsure or any(one.op == "hold" for one in heard if not _ended(one, calls)):
        return
    due = _due(history, heard, heard)
    if due is not None and due < history.over:
        yield f"{id_}: due {history.over - due:.1f} s before the end, and still there"


def _ended(hold: Said, calls: Sequence[Said]) -> bool:
    return any(one.op == "unhold" and one.acknowledged is not None and one.sent > hold.sent for one in calls)


def duplicates(deletes: Mapping[str, Sequence[Exchange]]) -> int:
    """Return how many DELETE requests were sent for something whose deletion had been confirmed before."""
    return sum(
        sum(
            exchange.at > min((one.answered or exchange.at for one in tried if one.confirms), default=exchange.at)
            for exchange in tried
        )
        for tried in deletes.values()
    )


def _repeated(history: History, deletes: Mapping[str, Sequence[Exchange]]) -> Iterable[str]:
    again = duplicates(deletes)
    if again > history.duplicates:
        yield f"{again} deletions were sent again, at most {history.duplicates} could be"


def _untrue(history: History, deletes: Mapping[str, Sequence[Exchange]]) -> Iterable[str]:
    """Yield what the audit says and the provider never did, and deletions without an intent or with two ends."""
    intents: dict[tuple[str, int], float] = {}
    ends: Counter[tuple[str, Any]] = Counter()
    for record in {(record["provider"], record["kind"], record["seq"]): record for record in history.audit}.values():
        if record["event"] == "intent":
            intents[record["id"], record["token"]] = record["at"]
        if record["event"] != "settled":
            continue
        ends[record["id"], record["token"]] += 1
        if intents.get((record["id"], record["token"]), record["at"] + 1) > record["at"]:
            yield f"{record['id']}: settled without an intent before"
        if record["outcome"] == "deleted" and not any(one.confirms for one in deletes.get(record["id"], ())):
            yield f"{record['id']}: settled as deleted, and the provider never said so"
    yield from (f"{id_}: {times} outcomes of one claim" for (id_, _token), times in ends.items() if times > 1)


def _miscounted(history: History) -> Iterable[str]:
    """Yield counters that differ from what was audited."""
    audited = {(record["provider"], record["kind"], record["seq"]): record for record in history.audit}.values()
    ends = [record for record in audited if record["event"] == "settled"]
    for outcome in DONE:
        shown = samples(history.metrics, "lapse_settled_total", f'outcome="{outcome}"')
        audit = sum(record["outcome"] == outcome for record in ends)
        if shown != audit:
            yield f"lapse_settled_total says {shown:g} {outcome}, the audit {audit}"
    shown = samples(history.metrics, "lapse_deletions_total")
    audit = sum(record["outcome"] == "deleted" for record in ends)
    if shown != audit:
        yield f"lapse_deletions_total is {shown:g}, the audit says {audit}"


def samples(metrics: str, name: str, label: str = "") -> float:
    """Return the sum of a metric's samples that carry a label."""
    return sum(float(value) for found, labels, value in _SAMPLE.findall(metrics) if found == name and label in labels)
