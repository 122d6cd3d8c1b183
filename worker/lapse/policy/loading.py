"""From the file's text and the environment to one frozen Config, or to all that is wrong with it at once."""

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from lapse.errors import ConfigError
from lapse.model import Partition
from lapse.policy import models, positions
from lapse.policy.checks import account_of, base_url, check
from lapse.policy.environment import overridden
from lapse.policy.models import NAMED, SECTIONS
from lapse.policy.problems import Problem, explain, report, unknown_key
from lapse.policy.values import (
    Account,
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

ELSEWHERE = {key: f"[{name}]" for name, model in SECTIONS.items() for key in model.model_fields} | dict.fromkeys(
    ("base_url", "api_key_env", "api_key_file", "rate", "concurrency", "not_found"), "[providers.NAME]"
)
UNITS = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the policy file with the environment's overrides.

    Raises:
        ConfigError: it cannot be read, or is wrong: every problem on a line of its own, with file, line and key.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), environ, path)


def parse(text: str, name: str, environ: Mapping[str, str], path: Path | None = None) -> Config:
    """Return the config of a policy file's text; ``name`` is what errors call it."""
    where = positions.Positions(text)
    try:
        tables, variables = overridden(tomllib.loads(text), environ)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_broken(error, name, where)) from None
    problems = _unknown_tables(tables)
    file, found = _validated(tables)
    problems += found
    if file and not problems:
        problems += check(file)
    if problems or file is None:
        raise ConfigError(report(problems, name, where, variables))
    return _compiled(file, path, tuple(sorted(variables.values())))


def _broken(error: tomllib.TOMLDecodeError, name: str, where: positions.Positions) -> str:
    found = re.search(r"\(at line (\d+)", str(error))
    line = found[1] if found else str(where.line(where.last))
    if where.repeated:
        line = found[1] if found else str(where.line(where.repeated))
        return f"{name}:{line}: {'.'.join(map(str, where.repeated))}: is written twice: give each its own name"
    return f"{name}:{line}: not TOML: {str(error).split(' (at')[0]}"


def _unknown_tables(tables: Mapping[str, Any]) -> list[Problem]:
    known = [*SECTIONS, *NAMED]
    return [Problem((key,), unknown_key(key, known, ELSEWHERE)) for key in tables if key not in known]


def _validated(tables: Mapping[str, Any]) -> tuple[models.File | None, list[Problem]]:
    known_tables = {key: value for key, value in tables.items() if key in SECTIONS or key in NAMED}
    try:
        return models.File.model_validate(known_tables), []
    except ValidationError as error:
        return None, explain(error, (), _keys, ELSEWHERE)


def _keys(path: positions.Path) -> Collection[str]:
    """Return the keys of the table at a path of the file."""
    model: type[BaseModel] = models.File
    for step in path:
        if isinstance(step, int) or (step in NAMED and model is models.File):
            continue
        field = model.model_fields.get(str(step))
        model = _TABLES.get(str(step), model) if field is None or str(step) in _TABLES else model
        if field is None and len(path) > 1 and path[0] in NAMED and step == path[1]:
            model = NAMED[str(path[0])]
    return list(model.model_fields)


_TABLES: dict[str, type[BaseModel]] = {
    **SECTIONS,
    "orphan": models.Orphan,
    "keep": models.Keep,
    "expires_after": models.ExpiresAfter,
    "max_deletions": models.Pace,
    "max_newly_due": models.Share,
    "max_share": models.Share,
}


def _compiled(file: models.File, path: Path | None, variables: tuple[str, ...]) -> Config:
    accounts = {name: _account(name, provider) for name, provider in file.providers.items()}
    rules = [
        _rule(name, policy, kind, file, accounts)
        for name, policy in file.policies.items()
        for kind in policy.kind or ()
    ]
    content = file.model_dump(warnings=False)
    for section, key in (("registry", "url"), ("celery", "broker_url")):
        content[section][key] = re.sub(r"//[^@/]*@", "//", content[section][key] or "")
    return Config(
        registry=RegistrySection(**file.registry.model_dump(warnings=False)),
        celery=CelerySection(**file.celery.model_dump(warnings=False)),
        schedule=ScheduleSection(**file.schedule.model_dump(warnings=False)),
        sweep=SweepSection(**file.sweep.model_dump(warnings=False)),
        audit=AuditSection(**file.audit.model_dump(warnings=False)),
        accounts=accounts,
        rules=tuple(sorted(rules, key=lambda rule: rule.partition)),
        path=path,
        variables=variables,
        hash=_digest(content),
    )


def _account(name: str, provider: models.Provider) -> Account:
    given = provider.model_dump(warnings=False) | {
        "base_url": base_url(provider),
        "not_found": tuple(provider.not_found),
    }
    return Account(name=name, **given)


def _rule(name: str, policy: models.Policy, kind: str, file: models.File, accounts: Mapping[str, Account]) -> Rule:
    account = accounts[str(account_of(policy, file))]
    after = policy.expires_after
    ttl = policy.ttl
    if after:
        ttl = float(sum((getattr(after, unit) or 0) * seconds for unit, seconds in UNITS.items()))
    stated = policy.model_fields_set
    pace = policy.max_deletions if "max_deletions" in stated else file.limits.max_deletions
    share = policy.max_newly_due if "max_newly_due" in stated else file.limits.max_newly_due
    every = policy.every or (file.schedule.orphans if policy.orphan else file.schedule.sweep)
    decides: dict[str, Any] = {
        "ttl": ttl,
        "anchor": after.anchor if after else policy.anchor,
        "max_age": policy.max_age,
        "orphan": _orphan(policy.orphan),
        "keep": tuple(Keep(keep.name, dict(keep.metadata)) for keep in policy.keep),
        "cascade": dict(policy.cascade),
        "enforce": policy.mode == "enforce",
        "max_deletions": None if pace is None else Pace(pace.amount, pace.window),
        "max_newly_due": _share(share),
        "touches_stated": policy.touches == "none",
        "expect_gone": policy.expect_gone,
        "cancel": policy.cancel,
    }
    identity = [account.type, account.base_url, account.organization, account.project]
    written = {key: asdict(value) if hasattr(value, "__slots__") else value for key, value in decides.items()}
    written["keep"] = [asdict(keep) for keep in decides["keep"]]
    partition = Partition(account.name, kind, name)
    digest = _digest([str(partition), identity, written])
    return Rule(partition=partition, every=every, formerly=tuple(sorted(policy.formerly)), digest=digest, **decides)


def _orphan(orphan: models.Orphan | None) -> Orphan | None:
    if orphan is None:
        return None
    return Orphan(orphan.min_age, orphan.seen, _share(orphan.max_share), orphan.uses == "none")


def _share(share: models.Share | None) -> Share | None:
    return None if share is None else Share(share.percent, share.at_least)


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
