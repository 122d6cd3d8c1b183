"""Every counter equals the history: outcomes the audit, requests the wire, what is tracked the application's log."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from oracle.audit import Audit
from oracle.confirmations import is_deletion
from oracle.history import History, Policy, Resource, Violation
from oracle.lifetimes import Application
from oracle.reading import asked, metrics

UNMANAGED = "(unmanaged)"
SETTLING = frozenset({"settled", "retried", "kept", "active", "quarantined", "released"})
OUTSIDE = frozenset({"limited"})
"""An outcome that is none: the claim was given back unbegun."""

Labels = tuple[str, ...]


def judge(history: History, audit: Audit) -> Iterator[Violation]:
    """Yield every series that says something else than what happened."""
    if history.metrics is None:
        return
    seen = metrics(history.metrics)

    def shown(name: str, *labels: str, **only: str) -> Counter[Labels]:
        found: Counter[Labels] = Counter()
        for (series, given), value in seen.items():
            if series == name and value and set(only.items()) <= given:
                at = dict(given)
                found[tuple(at.get(label, "") for label in labels)] += int(value)
        return found

    partition = ("provider", "kind", "policy")
    names = _Names(history.policies)
    yield from _equal("lapse_deletions_total", shown("lapse_deletions_total", *partition), _deletions(audit, names))
    outcomes = shown("lapse_settled_total", *partition, "outcome")
    yield from _equal("lapse_settled_total", outcomes, _outcomes(audit, names))
    crashes = shown("lapse_crashes_total", *partition)
    yield from _equal("lapse_crashes_total", crashes, _events(audit, names, "lapsed"))
    yield from _requests(history, shown("lapse_requests_total", "provider", "kind", "status", op="delete"))
    yield from _tracked(history, audit, shown("lapse_registered", "provider", "kind"))


class _Names:
    """Under which name the exporter shows a policy: its own, its successor's, or none."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        # Versions in the order of their time: the last one says what the names mean now.
        self._shown = {
            (one.provider, one.kind, name): one.name
            for one in sorted(policies, key=lambda one: one.since)
            for name in (*one.formerly, one.name)
        }
        last = max((one.since for one in policies), default=0.0)
        self._gone = {(one.provider, one.kind, one.name) for one in policies if one.until < last}

    def __call__(self, resource: Resource, policy: str) -> Labels:
        at = (resource.provider, resource.kind, policy)
        return (resource.provider, resource.kind, self._shown.get(at, UNMANAGED))


def _equal(name: str, shown: Mapping[Labels, int], expected: Mapping[Labels, int]) -> Iterator[Violation]:
    for labels in sorted({*shown, *expected}):
        if shown.get(labels, 0) != expected.get(labels, 0):
            seen = f"shows {shown.get(labels, 0)}, the history has {expected.get(labels, 0)}"
            yield Violation("count", f"{name}{{{','.join(labels)}}}", seen)


def _deletions(audit: Audit, names: _Names) -> Counter[Labels]:
    found: Counter[Labels] = Counter()
    for record in audit.records:
        if not record.get("items") and not is_deletion(record):
            continue
        resource = Resource(record["provider"], record["kind"], record.get("id") or "")
        provider, kind, policy = names(resource, record["policy"])
        found[provider, kind, policy] += is_deletion(record)
        found[provider, f"{kind}_item", policy] += record.get("items", 0)
    return +found


def _outcomes(audit: Audit, names: _Names) -> Counter[Labels]:
    found: Counter[Labels] = Counter()
    for record in audit.records:
        resource = Resource(record["provider"], record["kind"], record.get("id") or "")
        if record["event"] in SETTLING and record["outcome"] not in OUTSIDE:
            found[*names(resource, record["policy"]), record["outcome"]] += 1
        elif record["event"] == "corrected":
            found[*names(resource, record["policy"]), "deleted"] += 1
        elif record["event"] == "refused":
            found[*names(resource, record["policy"]), "refused"] += 1
    return found


def _events(audit: Audit, names: _Names, event: str) -> Counter[Labels]:
    chosen = (record for record in audit.records if record["event"] == event)
    return Counter(names(Resource(one["provider"], one["kind"], one.get("id") or ""), one["policy"]) for one in chosen)


def _requests(history: History, shown: Mapping[Labels, int]) -> Iterator[Violation]:
    """Yield DELETEs counted with an answer that was not given, and without a crash, ones that were not counted."""
    sent: Counter[Labels] = Counter()
    answered: Counter[Labels] = Counter()
    for request in history.requests:
        about = asked(request.path)
        if about and not about.parent and request.method == "DELETE":
            sent[request.provider, about.kind] += 1
            answered[request.provider, about.kind, str(request.status)] += 1
    for labels, n in sorted(shown.items()):
        if labels[-1].isdigit() and n > answered[labels]:
            seen = f"shows {n}, the provider gave {answered[labels]} such answers"
            yield Violation("count", f"lapse_requests_total{{{','.join(labels)}}}", seen)
    for at, n in sorted(sent.items()):
        counted = sum(value for labels, value in shown.items() if labels[:2] == at)
        if counted < n and not history.crashes:
            seen = f"shows {counted}, the provider saw {n}"
            yield Violation("count", f"lapse_requests_total{{{','.join(at)}}}", seen)


def _tracked(history: History, audit: Audit, shown: Mapping[Labels, int]) -> Iterator[Violation]:
    """Yield a slot that lost or made up ids: what was registered and neither settled nor forgotten is tracked."""
    application = Application(history, audit)
    tracked: Counter[Labels] = Counter()
    unsure: Counter[Labels] = Counter()
    for resource in application.calls:
        life = application.life(resource, history.ended)
        at: Labels = (resource.provider, resource.kind)
        gone = life.forgotten() is not None
        tracked[at] += life.tracked and not gone
        unsure[at] += bool(life.registrations) and not life.tracked
    for at in sorted({*shown, *tracked}):
        if not tracked[at] <= shown.get(at, 0) <= tracked[at] + unsure[at]:
            most = tracked[at] + unsure[at]
            seen = f"{shown.get(at, 0)} are tracked, {tracked[at]} to {most} were registered and not settled"
            yield Violation("lost", f"{'/'.join(at)}", seen)
