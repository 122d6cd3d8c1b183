"""What runs around the registry: the broker and how Celery talks to it, beat, the workers, and the config they use."""

from collections.abc import Mapping

import redis

from lapse.errors import ConfigError, LapseError
from lapse.guards.integrity.preflight import Finding, Level
from lapse.ledger import failures
from lapse.ledger.outbox import FIX, SUFFIX, check, folder_of
from lapse.log import redact, register_url
from lapse.metrics import causes, server
from lapse.metrics.snapshot import View
from lapse.policy import Config
from lapse.policy.reload import ConfigFile, Source, is_redis
from lapse.registry.pools.address import several
from lapse.registry.pools.plain import client_of
from lapse.registry.spool import place
from lapse.registry.spool.store import SpoolStore
from lapse.runtime.celery_config import MESSAGE_WAIT, settings

TIMEOUT = 5.0
BRPOP = 2 * MESSAGE_WAIT  # seconds; a wait for a message must not be taken for a lost connection


def config(file: ConfigFile) -> Finding:
    """Say which file is in use, and what it enforces."""
    used = file.current()
    if not file.ok:
        return Finding("config", Level.FATAL, file.error or "invalid", "lapse check-config says all that is wrong")
    enforced = sum(rule.enforce for rule in used.rules)
    detail = f"{used.path}, version {used.hash}: {enforced} of {len(used.rules)} partitions enforce"
    if used.variables:
        detail += f"; set by the environment: {', '.join(used.variables)}"
    if not used.rules:
        return Finding(
            "config", Level.WARNING, f"{detail}; nothing is ever deleted", "write a policy: lapse init shows one"
        )
    return Finding("config", Level.OK, detail)


def outbox(used: Config, environ: Mapping[str, str]) -> Finding:
    """Look at where confirmed deletions go that Redis does not take."""
    folder = folder_of(used.sweep.outbox, environ)
    if folder is None:
        detail = "none: a confirmation that Redis does not take is lost with its process"
        return Finding("outbox", Level.WARNING, detail, FIX)
    if not folder.exists():
        return Finding("outbox", Level.OK, f"{folder}, made when it is needed")
    try:
        check(folder)
    except ConfigError as error:
        return Finding("outbox", Level.FATAL, str(error), FIX)
    waiting = sum(1 for path in folder.glob(f"*{SUFFIX}"))
    if waiting:
        detail = f"{folder} holds {waiting} files of confirmations that Redis has not taken"
        return Finding("outbox", Level.WARNING, detail, "a worker with this folder records them once Redis takes them")
    return Finding("outbox", Level.OK, f"{folder}, empty")


def spool(namespace: str) -> Finding:
    """Look at what applications on this host said while Redis was away."""
    path = place.default(namespace)
    try:
        if not place.exists(path):
            return Finding("spool", Level.OK, f"{path}, made when it is needed")
        with SpoolStore(path, wait=TIMEOUT) as store:
            waiting, refused = sum(one.waiting for one in store.contents()), len(store.refused())
    except LapseError as error:
        return Finding("spool", Level.FATAL, str(error), "lapse spool status says what is in it")
    if refused or waiting:
        detail = f"{path}: {waiting} calls wait for Redis, {refused} were refused"
        return Finding(
            "spool", Level.WARNING, detail, "lapse spool flush sends them; lapse spool status names the refused"
        )
    return Finding("spool", Level.OK, f"{path}, empty")


def broker(used: Config, source: Source) -> list[Finding]:
    """Look at Celery's broker, and at whether a connection that died without a word is noticed."""
    register_url(source.url)
    if not is_redis(source.url):
        return _other_broker(used, source)
    if several(source.url):
        return [_other_broker(used, source)[0], _transport(used, source)]
    return [_broker_answers(source), _transport(used, source)]


def _other_broker(used: Config, source: Source) -> list[Finding]:
    """Ask a broker that is no Redis for its queue; what it is told is the file's."""
    from lapse.runtime.broker import waiting

    where = f"{redact(source.url.partition('?')[0])} (from {source.origin})"
    made = settings(used, source)
    said = ", ".join(sorted(made["broker_transport_options"])) or "no options"
    scheme = source.url.partition("://")[0]
    transport = Finding("celery_transport", Level.OK, f"kombu's {scheme}, with {said}")
    try:
        count = waiting(made, TIMEOUT)
    except (ConnectionError, ImportError, KeyError) as error:
        fix = "start it, or correct [celery] broker_url and broker_transport_options"
        return [Finding("broker", Level.FATAL, f"{where}: {redact(str(error))}", fix), transport]
    told = "has no queue yet" if count is None else f"answers, {count} messages wait"
    return [Finding("broker", Level.OK, f"{where} {told}"), transport]


def _broker_answers(source: Source) -> Finding:
    where = f"{redact(source.url)} (from {source.origin})"
    client = client_of(source.endpoint, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
    try:
        with client:
            client.ping()
            policy = str(dict(client.info("memory")).get("maxmemory_policy", "unknown"))
    except (redis.RedisError, OSError) as error:
        return Finding("broker", Level.FATAL, f"{where}: {error}", "start it, or correct [celery] broker_url")
    if policy.startswith("allkeys-"):
        detail = f"{where} evicts by {policy}: wake-ups may vanish, and come an interval later"
        return Finding("broker", Level.WARNING, detail, "set maxmemory-policy to noeviction there")
    return Finding("broker", Level.OK, f"{where} answers")


def _transport(used: Config, source: Source) -> Finding:
    made = settings(used, source)
    options = dict(made["broker_transport_options"])
    detail = ", ".join(
        f"{name} {options[name]}"
        for name in ("socket_timeout", "health_check_interval", "socket_keepalive", "visibility_timeout")
    )
    wrong = [
        (
            not options["socket_timeout"] or options["socket_timeout"] <= BRPOP,
            f"socket_timeout must be above {BRPOP} s",
        ),
        (not options["health_check_interval"], "health_check_interval must not be 0"),
        (options["visibility_timeout"] <= made["task_time_limit"], "visibility_timeout must exceed task_time_limit"),
    ]
    for holds, why in wrong:
        if holds:
            return Finding("celery_transport", Level.FATAL, f"{detail}: {why}", "report it: lapse sets it")
    return Finding("celery_transport", Level.OK, detail)


def beat(used: Config, published: Mapping[str, str], now: int) -> Finding:
    """Say whether beat has sent a wake-up lately."""
    lives, detail = server.ticked(used, published.get("beat"), now, never="beat has never sent one")
    fix = "" if lives else "start one: celery -A lapse.app beat, or worker --beat"
    return Finding("beat", Level.OK if lives else Level.FATAL, detail, fix)


def workers(used: Config, view: View, published: Mapping[str, str], now: int) -> list[Finding]:
    """Say whether wake-ups come through, and which processes use which version of the config."""
    lives, detail = server.came_back(used, published.get("tick"), now)
    fix = "" if lives else "start a worker (celery -A lapse.app worker), or look at its log"
    first = Finding("wake_up", Level.OK if lives else Level.FATAL, detail, fix)
    recent = {name: one for name, one in view.workers().items() if now - one["at"] <= causes.RECENT}
    if not recent:
        said = "; ".join(["no worker has shown itself in ten minutes", *causes.gone(view.workers(), now)])
        return [first, Finding("workers", Level.FATAL, said, "start one")]
    gone = causes.gone(view.workers(), now)
    hosts = sorted({name.rpartition(":")[0] for name in recent})
    count = f"in the last ten minutes {len(recent)} on {', '.join(hosts)}"
    other = sorted({f"{name} ({one['hash']})" for name, one in recent.items() if one["hash"] != used.hash})
    if other:
        detail = f"{count}; with another version of the config than {used.hash} here: {', '.join(other[:5])}"
        return [
            first,
            Finding("workers", Level.WARNING, detail, "give all hosts the same file; workers take it up alone"),
        ]
    if gone:
        fix = "look at these hosts; who took a worker down for good is told so for an hour"
        return [first, Finding("workers", Level.WARNING, f"{count}; {'; '.join(gone)}", fix)]
    return [first, Finding("workers", Level.OK, f"{count}, all with this version of the config")]


def sweeps(client: redis.Redis, used: Config, now: int) -> Finding:
    """Say which policies' sweeps end badly again and again."""
    rows = failures.look(client, used.registry.namespace, [rule.partition for rule in used.rules])
    if rows:
        return Finding("sweeps", Level.FATAL, "; ".join(row.told(now) for row in rows), "mend what the last one says")
    return Finding("sweeps", Level.OK, "none fails again and again")


def audit(view: View, used: Config) -> Finding:
    """Say whether the sink takes what was done: where it does not, deletions stop."""
    found = view.slots(view.known_slots(used.rules, used.accounts))
    most = used.audit.max_pending
    stopped = [said for one in found if (said := causes.full(f"{one.provider}/{one.kind}", one.audit_pending, most))]
    if stopped:
        fix = f"let workers write to {used.audit.sink}: audit.failed in their log says why they cannot"
        return Finding("audit", Level.FATAL, "; ".join(stopped), fix)
    waiting = sum(one.audit_pending for one in found)
    return Finding("audit", Level.OK, f"{used.audit.sink}; {waiting:,} records wait, at most {most:,} of each kind may")


def observing(view: View, used: Config) -> list[Finding]:
    """Warn of each policy that only observes while ids of it are due: nothing deletes them."""
    return [
        Finding(
            f"policy {one.partition}",
            Level.WARNING,
            f"{one.due:,} of {one.registered:,} ids are due, and it only observes: nothing deletes them",
            'read lapse plan, then set mode = "enforce"',
        )
        for one in view.partitions(used.rules, used.accounts)
        if one.mode == "observe" and one.due
    ]


def flows(view: View, used: Config, now: int) -> list[Finding]:
    """Say what holds requests back for now: breakers with their cause, and Retry-Afters."""
    found = []
    slots = view.slots(view.known_slots(used.rules, used.accounts))
    for name, throttle in view.flows(used.accounts).items():
        shut = [causes.shut(f"{one.provider}/{one.kind}", one.shut, now) for one in slots if one.provider == name]
        held = list(filter(None, [causes.breaker(name, throttle, now), *shut]))
        if held:
            fix = "mend the key, the account or the network; then it goes on by itself"
            found.append(Finding(f"requests {name}", Level.FATAL, "; ".join(held), fix))
        elif waits := causes.waits(name, throttle, now):
            found.append(Finding(f"requests {name}", Level.WARNING, waits, f"wait, or lapse resume --provider {name}"))
    return found
