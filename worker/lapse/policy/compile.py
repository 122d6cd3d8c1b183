"""From a checked policy file to the values that the rest of the worker uses, and their fingerprints. No I/O."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lapse.policy import schema
from lapse.policy.accounts import api_version, base_url
from lapse.policy.checks import account_of, ttl_of
from lapse.policy.rules import (
    USUAL_WALL,
    AuditSection,
    CelerySection,
    Config,
    Keep,
    Orphan,
    Pace,
    RegistrySection,
    Rule,
    ScheduleSection,
    Share,
    SweepSection,
)
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.registry.model import Partition


def compiled(file: schema.PolicyFile, path: Path | None, variables: tuple[str, ...]) -> Config:
    """Return the config that a file says; the file has passed every check."""
    accounts = {name: _account(name, provider) for name, provider in sorted(file.providers.items())}
    rules = [
        _rule(name, policy, kind, file, accounts)
        for name, policy in file.policies.items()
        for kind in policy.kind or ()
    ]
    sections: dict[str, Any] = {
        "registry": RegistrySection(**dict(file.registry)),
        "celery": CelerySection(**dict(file.celery)),
        "schedule": ScheduleSection(**dict(file.schedule)),
        "sweep": SweepSection(**dict(file.sweep)),
        "audit": AuditSection(**dict(file.audit)),
    }
    rules.sort(key=lambda rule: rule.partition)
    content = {name: asdict(section) for name, section in sections.items()}
    content["registry"]["url"] = _without_password(file.registry.url)
    content["celery"]["broker_url"] = _without_password(file.celery.broker_url)
    content["accounts"] = {name: asdict(account) for name, account in accounts.items()}
    digest = _digest([content, [asdict(rule) for rule in rules]])
    return Config(**sections, accounts=accounts, rules=tuple(rules), path=path, variables=variables, hash=digest)


def _account(name: str, provider: schema.ProviderTable) -> Account:
    where = {"base_url": base_url(provider), "api_version": api_version(provider)}
    return Account(name=name, **(dict(provider) | where | {"not_found": tuple(provider.not_found)}))


def _rule(
    name: str, policy: schema.Policy, kind: str, file: schema.PolicyFile, accounts: Mapping[str, Account]
) -> Rule:
    account = accounts[account_of(policy, file) or ""]
    partition = Partition(account.name, kind, name)
    stated = policy.model_fields_set
    pace = policy.max_deletions if "max_deletions" in stated else file.limits.max_deletions
    share = policy.max_newly_due if "max_newly_due" in stated else file.limits.max_newly_due
    wall = policy.max_already_gone if "max_already_gone" in stated else file.limits.max_already_gone
    decides: dict[str, Any] = {
        "ttl": ttl_of(policy),
        "anchor": policy.expires_after.anchor if policy.expires_after else policy.anchor,
        "max_age": policy.max_age,
        "orphan": _orphan(policy.orphan),
        "keep": tuple(sorted((_keep(keep) for keep in policy.keep), key=repr)),
        "cascade": dict(sorted(policy.cascade.items())),
        "enforce": policy.mode == "enforce",
        "max_deletions": None if pace is None else Pace(pace.amount, pace.window),
        "max_newly_due": _share(share),
        "max_already_gone": _share(wall),
        # Where the provider keeps the last activity it is asked: no touch is needed.
        "touches_stated": policy.touches == "none" or KINDS[account.type][kind].tells_activity,
        "expect_gone": policy.expect_gone,
        "cancel": policy.cancel,
        "formerly": tuple(sorted(set(policy.formerly))),
    }
    identity = [account.type, account.base_url, account.organization, account.project]
    identity += [account.ids] if account.ids else []  # it decides what counts as a confirmation
    rule = Rule(partition=partition, every=_every(policy, file), digest="", **decides)
    # Workers of the version before do not know it: unless it is stated, both have the same rules in force.
    known = decides.keys() - ({"max_already_gone"} if rule.max_already_gone == USUAL_WALL else set())
    written = {key: value for key, value in asdict(rule).items() if key in known}
    return Rule(
        partition=partition,
        every=rule.every,
        digest=_digest([asdict(partition), identity, file.sweep.ramp, written]),
        **decides,
    )


def _every(policy: schema.Policy, file: schema.PolicyFile) -> float:
    return policy.every or (file.schedule.orphans if policy.orphan else file.schedule.sweep)


def _orphan(orphan: schema.OrphanTable | None) -> Orphan | None:
    if orphan is None:
        return None
    return Orphan(orphan.min_age, orphan.seen, _share(orphan.max_share), orphan.uses == "none")


def _keep(keep: schema.KeepTable) -> Keep:
    return Keep(keep.name, dict(sorted(keep.metadata.items())))


def _share(share: schema.ShareTable | None) -> Share | None:
    return None if share is None else Share(share.percent, share.at_least)


def _without_password(url: str | None) -> str | None:
    """Return a URL without what may identify a person: the hash it goes into is published."""
    return url and re.sub(r"//[^@/]*@|\?.*", lambda found: "//" if found[0][0] == "/" else "", url)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
