"""What the oracle is given of a run: the stand-in's traffic, what is left in the registry, and the last scrape."""

import contextlib
import functools
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lapse.audit.verify import Verification
from lapse.errors import ConfigError
from lapse.metrics.collector import exposition
from lapse.policy import Rule
from lapse.policy.reload import ConfigFile
from lapse.registry.pools.plain import client_of
from lapse.sandbox import Sandbox
from oracle.history import Policy, Request, Resource, Violation

CONFIRMED = {200, 204}
DIALECTS = ("openai", "foundry", "langgraph")


def traffic(requests: Iterable[Mapping[str, Any]], provider: str) -> tuple[Request, ...]:
    """Return the stand-in's request log as the oracle reads it; it knows when a request came, not when it was over."""
    return tuple(
        Request(
            provider,
            one["time"],
            one["time"] if one["status"] else None,
            one["method"],
            one["path"],
            one["status"],
            confirmed=one["method"] == "DELETE" and one["answer"] == "deleted" and one["status"] in CONFIRMED,
        )
        for one in requests
    )


def named(audit: Iterable[Mapping[str, Any]]) -> set[Resource]:
    """Return what audit records are about."""
    return {Resource(one["provider"], one["kind"], one.get("id") or "") for one in audit}


def living(sandbox: Sandbox, resources: Iterable[Resource]) -> dict[tuple[str, str], frozenset[str]]:
    """Return the ids that the stand-in has of the kinds of these resources, in any project and dialect."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for slot in {one[:2] for one in resources}:
        ids: set[str] = set()
        for dialect in DIALECTS:
            with contextlib.suppress(ConfigError):  # a dialect that has no such kind
                ids |= sandbox.alive(slot[1], dialect=dialect)
        found[slot] = frozenset(ids)
    return found


def pending_audit(url: str) -> list[dict[str, Any]]:
    """Return the audit records of every slot that no sink has taken yet."""
    with client_of(url, decode_responses=True) as client:
        streams: Any = client.scan_iter("*}:audit")
        rows: Any = [row for stream in streams for row in client.xrange(stream)]
        others: Any = client.scan_iter("*}:acts")
        acts: Any = [json.loads(fields["e"]) for stream in others for _, fields in client.xrange(stream)]
    return [*({"seq": seq, **json.loads(fields["e"])} for seq, fields in rows), *acts]


def altered(audit: Path) -> list[Violation]:
    """Return what is wrong with the chain of an audit file, if there is one."""
    found = Verification([]).verify([audit]).wrong if audit.exists() and audit.stat().st_size else []
    return [Violation("chain", f"{audit.name}:{wrong.place.line}", wrong.what) for wrong in found]


def scrape(url: str, config: Path, environ: Mapping[str, str]) -> str | None:
    """Return what an exporter with this policy file shows, or None where it would not start with it."""
    try:
        file = ConfigFile(config, dict(environ))
    except ConfigError:
        return None
    return shown(url, file)


def shown(url: str, file: ConfigFile) -> str:
    """Return what an exporter shows that has read its policy file."""
    with client_of(url, decode_responses=True, encoding_errors="backslashreplace") as client:  # as the exporter's
        return exposition(client, file)[1].decode()


@functools.cache
def written(text: str, key: str) -> ConfigFile | None:
    """Return a policy file of this text, or None if no exporter would start with it.

    It is read once a run: an exporter waits until a file has stood for a moment, and each test would wait for its own.
    """
    path = Path(tempfile.mkdtemp(dir=os.environ["LAPSE_RUNTIME_DIR"])) / "scraped.toml"
    path.write_text(text)
    try:
        return ConfigFile(path, {"KEY": key})
    except ConfigError:
        return None


def policy(rule: Rule, since: float) -> Policy:
    """Return a rule as the oracle has it."""
    at, pace = rule.partition, rule.max_deletions
    return Policy(
        at.provider,
        at.kind,
        at.policy,
        rule.ttl,
        rule.anchor,
        rule.max_age,
        orphan=rule.orphan.min_age if rule.orphan else None,
        enforce=rule.enforce,
        amount=pace.amount if pace else None,
        window=pace.window if pace else 0.0,
        formerly=tuple(rule.formerly),
        touches=not rule.touches_stated,
        since=since,
        uses=not (rule.orphan and rule.orphan.uses_stated),
        newly=(rule.max_newly_due.percent, rule.max_newly_due.at_least) if rule.max_newly_due else None,
    )


def policy_file(policies: Iterable[Policy], base_url: str) -> str:
    """Return a policy file that knows these names, for an exporter beside sweeps that read none."""
    kinds: dict[str, set[str]] = {}
    formerly: dict[str, set[str]] = {}
    for one in policies:
        kinds.setdefault(one.name, set()).add(one.kind)
        formerly.setdefault(one.name, set()).update(one.formerly)
    text = f'[providers.openai]\ntype = "openai"\nbase_url = "{base_url}"\napi_key_env = "KEY"\n'
    renamed = set().union(*formerly.values())
    for name, known in kinds.items():
        if name in renamed:
            continue
        text += f'[policies."{name}"]\nkind = {json.dumps(sorted(known))}\nttl = "7d"\nanchor = "created_at"\n'
        text += f"formerly = {json.dumps(sorted(formerly[name]))}\n" if formerly[name] else ""
    return text
