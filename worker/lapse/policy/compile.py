"""From a checked policy file to the values that the rest of the worker uses, and their fingerprints. No I/O."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lapse.policy import schema
from lapse.policy.accounts import api_version, base_url
from lapse.policy.checks import account_of, ttl_of
from lapse.policy.rules import Config, Orphan, Rule
from lapse.policy.tables import AUTO, AuditSection, ErasureSection, Table, Wall
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.registry.model import Partition

USUAL_WALL = Wall(50, 20)
"""``max_already_gone`` where the file says nothing."""

_NEWER = ("auth", "iam", "password_file", "sentinel_password_file")
"""Keys of [registry] that hashes are stored without."""


def compiled(file: schema.PolicyFile, path: Path | None, variables: tuple[str, ...]) -> Config:
    """Return the config that a file says; the file has passed every check."""
    accounts = {name: _account(name, provider) for name, provider in sorted(file.providers.items())}
    rules = [
        _rule(name, policy, kind, file, accounts)
        for name, policy in file.policies.items()
        for kind in policy.kind or ()
    ]
    rules.sort(key=lambda rule: rule.partition)
    sections: dict[str, Any] = {name: table for name, table in file if isinstance(table, Table)}
    config = Config(**sections, accounts=accounts, rules=tuple(rules), path=path, variables=variables, hash="")
    content = asdict(config)
    del content["path"], content["variables"], content["hash"]
    # What is newer than hashes that are stored counts where it is set.
    if config.audit.subjects == AuditSection().subjects:
        del content["audit"]["subjects"]
    if config.registry.replicas == AUTO:
        del content["registry"]["replicas"]
    if config.erasure == ErasureSection():
        del content["erasure"]
    del content["receipts"]  # no worker reads it: whoever issues receipts has the same policies
    content["accounts"] = {name: _route_hashed(account) for name, account in content["accounts"].items()}
    content["registry"] = {
        key: value for key, value in content["registry"].items() if key not in _NEWER or value is not None
    }
    content["registry"]["url"] = _without_password(config.registry.url)
    content["celery"]["broker_url"] = _without_password(config.celery.broker_url)
    options = content["celery"].pop("broker_transport_options")
    if options:  # what they say may be secret
        content["celery"]["broker_transport_options"] = sorted(options)
    return replace(config, hash=_digest([content, content.pop("rules")]))


def _account(name: str, provider: schema.ProviderTable) -> Account:
    where = {"base_url": base_url(provider), "api_version": api_version(provider)}
    return Account(name=name, **(dict(provider) | where | {"not_found": tuple(provider.not_found)}))


def _rule(
    name: str, policy: schema.Policy, kind: str, file: schema.PolicyFile, accounts: Mapping[str, Account]
) -> Rule:
    account = accounts[account_of(policy, file) or ""]
    limits = dict(file.limits) | {key: limit for key, limit in policy if key in policy.model_fields_set}
    rule = Rule(
        partition=Partition(account.name, kind, name),
        ttl=ttl_of(policy),
        anchor=policy.expires_after.anchor if policy.expires_after else policy.anchor,
        max_age=policy.max_age,
        orphan=_orphan(policy.orphan),
        keep=tuple(sorted(policy.keep, key=repr)),
        cascade=dict(sorted(policy.cascade.items())),
        enforce=policy.mode == "enforce",
        max_deletions=limits["max_deletions"],
        max_newly_due=limits["max_newly_due"],
        max_already_gone=limits["max_already_gone"],
        # Where the provider keeps the last activity it is asked: no touch is needed.
        touches_stated=policy.touches == "none" or KINDS[account.type][kind].tells_activity,
        expect_gone=policy.expect_gone,
        cancel=policy.cancel,
        every=policy.every or (file.schedule.orphans if policy.orphan else file.schedule.sweep),
        formerly=tuple(sorted(set(policy.formerly))),
        digest="",
    )
    return replace(rule, digest=_rule_digest(rule, account, file.sweep.ramp))


def _rule_digest(rule: Rule, account: Account, ramp: float | None) -> str:
    identity = [account.type, account.base_url, account.organization, account.project]
    identity += [account.ids] if account.ids else []  # it decides what counts as a confirmation
    decides = asdict(rule)
    del decides["every"], decides["digest"]
    # Workers of the version before do not know it: unless it is stated, both have the same rules in force.
    if rule.max_already_gone == USUAL_WALL:
        del decides["max_already_gone"]
    return _digest([decides.pop("partition"), identity, ramp, decides])


def _orphan(said: schema.OrphanTable | None) -> Orphan | None:
    return Orphan(said.min_age, said.seen, said.max_share, uses_stated=said.uses == "none") if said else None


def _route_hashed(account: dict[str, Any]) -> dict[str, Any]:
    """Return what is hashed of an account: of its route only what the file says, as digests are stored without it."""
    said = {"proxy": _without_password(account.pop("proxy")), "ca_file": account.pop("ca_file")}
    return account | {key: value for key, value in said.items() if value is not None}


def _without_password(url: str | None) -> str | None:
    """Return a URL without what may identify a person: the hash it goes into is published."""
    return url and re.sub(r"//[^@/]*@|\?.*", lambda found: "//" if found[0][0] == "/" else "", url)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
