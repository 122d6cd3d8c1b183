"""The metrics: a projection of the registry. Counters were moved by the script that settled; nothing is counted here.

So they survive restarts, are the same from every exporter, and need no multiprocess directory. No label holds an id.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.registry import Collector

from lapse import __version__
from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.ledger.reasons import OF_ORPHANS, SHARED
from lapse.metrics.catalog import GUARDS, LAG_BOUNDS, OUTCOMES, REQUEST_BOUNDS, RESULTS, TABLE
from lapse.metrics.erasures import ErasureReader, ErasureStanding
from lapse.metrics.snapshot import UNMANAGED, View
from lapse.metrics.views import PartitionView, SlotView
from lapse.policy import Config, Rule, estimate
from lapse.policy.reload import ConfigFile
from lapse.providers.kinds import KINDS
from lapse.registry.model import Partition

UNKNOWN, NEW = "unknown", "new"
"""The label ``deployment`` of a registry that has not answered this process yet, and of one that no worker began."""

_BY_NAME = {described.name: described for described in TABLE}
_FAMILIES: dict[str, type[CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}

Labels = tuple[str, ...]
Samples = Mapping[Labels, float]


class Exporter(Collector):
    """Reads the registry anew for every scrape."""

    def __init__(
        self,
        client: redis.Redis,
        file: ConfigFile,
        continuity: ContinuityCheck | None = None,
        erasures: ErasureReader | None = None,
    ) -> None:
        self._client = client
        self._file = file
        self._continuity = continuity or ContinuityCheck()
        self._erasures = erasures or ErasureReader()

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not ask Redis."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; with the registry away, only what this process knows by itself.

        All have the label ``deployment``: that of ``[registry]``, else the registry's epoch.
        """
        config = self._file.current()
        try:
            view = View(self._client, config.registry.namespace, self._continuity)
            erasures = self._erasures.read(self._client, config.registry.namespace)
            scrape, without = Scrape(view, config, erasures), NEW
        except (redis.RedisError, OSError):
            scrape, without = None, UNKNOWN
        deployment = config.registry.deployment or self._continuity.epoch(scrape.epoch if scrape else {}) or without
        for metric in self._all(config, scrape):
            metric.samples = [one._replace(labels={"deployment": deployment, **one.labels}) for one in metric.samples]
            yield metric

    def _all(self, config: Config, scrape: "Scrape | None") -> Iterator[Metric]:
        yield _family("lapse_build_info", {(__version__,): 1})
        yield _family("lapse_config_info", {(config.hash,): 1})
        yield _family("lapse_registry_up", {(): float(scrape is not None)})
        in_use = self._file.ok and (scrape is None or scrape.workers_read_it)
        yield _family("lapse_config_last_reload_successful", {(): float(in_use)})
        if scrape:
            yield from scrape.metrics()


def exposition(
    client: redis.Redis,
    file: ConfigFile,
    continuity: ContinuityCheck | None = None,
    erasures: ErasureReader | None = None,
    *,
    accept: str = "",
) -> tuple[str, bytes]:
    """Return the content type and the text of one scrape.

    Args:
        client: Of the registry.
        file: The config.
        continuity: Remembers the registry between two scrapes.
        erasures: Remembers the requests to erase a subject.
        accept: The request's header: OpenMetrics for who asks for it, else the text format 0.0.4; the same series.

    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter(client, file, continuity, erasures))
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)


def compressed(body: bytes, encodings: str) -> tuple[dict[str, str], bytes]:
    """Return a page as the request's ``Accept-Encoding`` wants it, and the headers that say so."""
    return ({"Content-Encoding": "gzip"}, gzip.compress(body)) if gzip_accepted(encodings) else ({}, body)


class Scrape:
    """One reading of the registry."""

    def __init__(self, view: View, config: Config, erasures: ErasureStanding) -> None:
        self._config = config
        self._erasures = erasures
        seen = view.look(config.rules, config.accounts, ramp=config.sweep.ramp)
        self._partitions = seen.partitions
        found = {(one.partition.provider, one.partition.kind) for one in self._partitions}
        self._slots = [one for one in seen.slots if (one.provider, one.kind) in found or one.counters or one.held]
        self._published = seen.published
        self._now = seen.now
        self.epoch = seen.epoch
        shut = {one.provider for one in seen.slots if one.shut}
        self._breakers = {
            name: "breaker" in throttle or name in shut for name, throttle in view.flows(config.accounts).items()
        }
        self._names = {
            (rule.partition.provider, rule.partition.kind, name): rule.partition.policy
            for rule in config.rules
            for name in (*rule.formerly, rule.partition.policy)
        }

    @property
    def workers_read_it(self) -> bool:
        """False if the worker that kept house last could not read its policy file; True before there was one."""
        return bool(json.loads(self._published.get("config", "{}")).get("ok", True))

    def metrics(self) -> Iterator[Metric]:
        """Yield every metric that is read from the registry."""
        yield from self._of_counters()
        yield from self._of_partitions()
        yield from self._of_slots()
        yield from self._of_erasures()
        yield _family("lapse_breaker_open", {(name,): float(is_open) for name, is_open in self._breakers.items()})
        yield _family("lapse_backlog_clear_seconds", self._forecast())
        rates = {(name,): account.rate for name, account in self._config.accounts.items()}
        yield _family("lapse_rate_limit_requests_per_second", {at: rate for at, rate in rates.items() if rate})
        yield _family("lapse_registry_time_seconds", {(): self._now / 1000})
        yield _family("lapse_beat_interval_seconds", {(): self._config.schedule.sweep})
        yield _moment("lapse_beat_last_tick_timestamp_seconds", self._published.get("beat"))
        yield _moment("lapse_worker_last_tick_timestamp_seconds", self._published.get("tick"))
        yield _moment("lapse_registry_epoch_timestamp_seconds", self.epoch.get("created"))

    def _of_partitions(self) -> Iterator[Metric]:
        managed = [one for one in self._partitions if one.configured]
        values: dict[str, Callable[[PartitionView], float]] = {
            "lapse_registered": lambda one: one.registered,
            "lapse_due": lambda one: one.due,
            "lapse_would_delete": lambda one: 0 if one.enforcing else one.due,
            "lapse_oldest_overdue_seconds": lambda one: one.overdue if one.mode == "enforce" else 0,
            "lapse_quarantined": lambda one: one.quarantined,
            "lapse_parked": lambda one: one.parked,
            "lapse_limited": lambda one: one.limited or one.ramped,
            "lapse_paused": lambda one: one.paused is not None,
            "lapse_enforcing": lambda one: one.enforcing,
        }
        for name, value in values.items():
            samples = {_at(one.partition): float(value(one)) for one in managed}
            if name == "lapse_registered":
                samples |= self._strays()
            yield _family(name, samples)
        halted = {(*_at(one.partition), halt.reason): 1.0 for one in managed for halt in one.halts}
        yield _family("lapse_halted", halted)
        success = {_at(one.partition): one.last_success for one in managed if one.last_success}
        yield _family("lapse_last_success_timestamp_seconds", success)
        yield from self._of_rules()
        orphans = {(*_at(one.partition), state): float(n) for one in managed for state, n in one.orphans.items()}
        yield _family("lapse_orphans", orphans)

    def _of_rules(self) -> Iterator[Metric]:
        rules = [(rule, KINDS[self._config.accounts[rule.partition.provider].type]) for rule in self._config.rules]
        intervals = {_at(rule.partition): rule.every for rule, _kinds in rules}
        gone = {
            _at(rule.partition): 1.0
            for rule, kinds in rules
            if rule.expect_gone or kinds[rule.partition.kind].native_expiry
        }
        yield _family("lapse_sweep_interval_seconds", intervals)
        yield _family("lapse_expect_gone", gone)

    def _of_slots(self) -> Iterator[Metric]:
        yield _family("lapse_held", {(slot.provider, slot.kind): float(slot.held) for slot in self._slots})
        yield _family(
            "lapse_audit_pending", {(slot.provider, slot.kind): float(slot.audit_pending) for slot in self._slots}
        )
        strays: dict[Labels, float] = {(slot.provider, slot.kind): 0.0 for slot in self._slots}
        for (provider, kind, _policy), n in self._strays().items():
            strays[provider, kind] += n
        yield _family("lapse_unmanaged", strays)

    def _of_erasures(self) -> Iterator[Metric]:
        yield _family("lapse_erasures", {(state,): float(n) for state, n in self._erasures.counts.items()})
        received, due = self._erasures.received, self._erasures.due
        waited = 0.0 if received is None else max(0.0, (self._now - received) / 1000)
        yield _family("lapse_erasure_oldest_open_seconds", {(): waited})
        yield _family("lapse_erasure_due_timestamp_seconds", {} if due is None else {(): due / 1000})

    def _of_counters(self) -> Iterator[Metric]:
        totals: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        for rule in self._config.rules:
            _begin(totals, rule)
        for slot in self._slots:
            for name, n in slot.counters.items():
                self._add(totals, slot, name.split("|"), n)
        for name, described in _BY_NAME.items():
            if described.type == "counter":
                yield _family(name, totals[name])
        yield _histogram("lapse_deletion_lag_seconds", LAG_BOUNDS, totals["lag"], totals["lag_ms"])
        yield _histogram(
            "lapse_request_duration_seconds", REQUEST_BOUNDS, totals["request_seconds"], totals["request_ms"]
        )

    def _add(self, totals: dict[str, dict[Labels, float]], slot: SlotView, name: Sequence[str], n: int) -> None:
        """Put one counter of the registry, ``metric|policy|labels...``, where its metric wants it."""
        metric, policy, *rest = name
        at = (slot.provider, slot.kind, self._names.get((slot.provider, slot.kind, policy), UNMANAGED))
        match metric:
            case "deletions":
                totals["lapse_deletions_total"][slot.provider, rest[0], at[2]] += n
            case "settled" | "sweeps" | "guard_trips":
                totals[f"lapse_{metric}_total"][*at, rest[0]] += n
            case "crashes":
                totals["lapse_crashes_total"][at] += n
            case "requests":
                totals["lapse_requests_total"][slot.provider, slot.kind, *rest] += n
            case "left":
                totals["lapse_children_left_total"][slot.provider, slot.kind, rest[0]] += n
            case "rate_wait_ms":
                totals["lapse_rate_limit_wait_seconds_total"][slot.provider, slot.kind] += n / 1000
            case "lag" | "lag_ms":
                totals[metric][*at, *rest] += n
            case "request_seconds" | "request_ms":
                totals[metric][slot.provider, *rest] += n

    def _strays(self) -> dict[Labels, float]:
        found: dict[Labels, float] = defaultdict(float)
        for one in self._partitions:
            if not one.configured:
                found[one.partition.provider, one.partition.kind, UNMANAGED] += one.registered
        return found

    def _forecast(self) -> dict[Labels, float]:
        needed: dict[str, int] = dict.fromkeys(self._config.accounts, 0)
        rules = {rule.partition: rule for rule in self._config.rules}
        for one in self._partitions:
            if one.configured:
                kind = KINDS[self._config.accounts[one.partition.provider].type][one.partition.kind]
                needed[one.partition.provider] += estimate.requests(rules[one.partition], kind, one.due, one.extra)
        rates = {name: account.rate for name, account in self._config.accounts.items()}
        return {(name,): n / rate for name, n in needed.items() if (rate := rates[name])}


def _begin(totals: dict[str, dict[Labels, float]], rule: Rule) -> None:
    """Let the series that alerts watch begin at 0, so that rate() sees their first increment."""
    at, labels = rule.partition, _at(rule.partition)
    foreign = SHARED if rule.orphan else (*SHARED, *OF_ORPHANS)
    guards = [guard for guard in GUARDS if guard not in foreign]
    if any(kinds[at.kind].child for kinds in KINDS.values() if at.kind in kinds):
        totals["lapse_deletions_total"][at.provider, f"{at.kind}_item", at.policy] += 0
    totals["lapse_deletions_total"][labels] += 0
    totals["lapse_crashes_total"][labels] += 0
    totals["lapse_rate_limit_wait_seconds_total"][at.provider, at.kind] += 0
    totals["lapse_requests_total"][at.provider, at.kind, "delete", "200"] += 0
    totals["request_seconds"][at.provider, "delete", "inf"] += 0
    totals["lag"][*labels, "inf"] += 0
    for name, values in (("settled", OUTCOMES), ("sweeps", RESULTS[:1]), ("guard_trips", guards)):
        for value in values:
            totals[f"lapse_{name}_total"][*labels, value] += 0


def _at(partition: Partition) -> Labels:
    return partition.provider, partition.kind, partition.policy


def _moment(name: str, milliseconds: str | None) -> Metric:
    return _family(name, {(): int(milliseconds) / 1000} if milliseconds else {})


def _family(name: str, samples: Samples) -> CounterMetricFamily | GaugeMetricFamily:
    family = _FAMILIES[_BY_NAME[name].type](name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
    for labels, value in sorted(samples.items()):
        family.add_metric(labels, value)
    return family


def _histogram(name: str, bounds: Iterable[str], buckets: Samples, sums: Samples) -> HistogramMetricFamily:
    """Make a classic histogram of counters that are not cumulative; the last label of a bucket is its bound."""
    family = HistogramMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
    for labels in sorted({labels[:-1] for labels in buckets}):
        total, cumulative = 0.0, []
        for bound in (*bounds, "inf"):
            total += buckets.get((*labels, bound), 0)
            cumulative.append(("+Inf" if bound == "inf" else str(float(bound)), total))
        family.add_metric(labels, cumulative, sums.get(labels, 0) / 1000)
    return family
