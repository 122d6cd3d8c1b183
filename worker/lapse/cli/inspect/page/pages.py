"""The two pages: everything at ``/``, and one policy at ``/policy/NAME``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote, unquote

from lapse import durations
from lapse.cli import formatting
from lapse.cli.inspect.page.markup import Child, document, name_of, prose, security_headers, tag
from lapse.cli.inspect.page.notices import KNOW, WAITS, Notice, capital, notices, stopped
from lapse.cli.inspect.page.parts import (
    NONE,
    Cells,
    badge,
    head,
    listed,
    moment_of,
    number,
    section,
    span,
    state,
    summary,
    table,
    when,
)
from lapse.cli.inspect.page.reading import PageReading, RegistryReader, RegistryReading
from lapse.cli.inspect.status import PolicyStanding
from lapse.metrics import causes
from lapse.metrics.server import BELOW, ExporterParts, Page, PageAnswer, PageRequest
from lapse.policy import Rule, estimate

HTML = "text/html; charset=utf-8"
POLICY = "/policy/"
COLUMNS = (
    "Policy",
    "State",
    "Registered",
    "Due",
    "Overdue",
    "Held or used",
    "Waiting",
    "Quarantined",
    "Already gone",
    "Last sweep",
    "Next sweep",
)
NUMBERS = COLUMNS[2:9]
LATE = 60
"""Seconds after its time from which on a sweep is late: beat has other work too."""
LEFT_OUT = "Ids, and texts that may name one, are left out here: `lapse status` and `lapse explain` show them."


def status_pages(parts: ExporterParts) -> Mapping[str, Page]:
    """Return the pages of an exporter, by their paths."""
    reader = RegistryReader(parts)
    return {"/": _page(reader, overview), POLICY + BELOW: _page(reader, one_policy)}


def _page(reader: RegistryReader, shown: Callable[[PageReading, PageRequest], tuple[int, bytes]]) -> Page:
    def answer(asked: PageRequest) -> PageAnswer:
        status, body = shown(reader.latest(), asked)
        return PageAnswer(status, HTML, body, security_headers())

    return answer


def overview(reading: PageReading, _asked: PageRequest) -> tuple[int, bytes]:
    """Return everything: what waits for somebody, the policies, the providers, and who works."""
    found = notices(reading)
    title = f"{sum(one.level == WAITS for one in found) or 'nothing'} waiting - lapse"
    return 200, document(title, head(reading, summary(reading, found)), _main(reading, found))


def _main(reading: PageReading, found: Sequence[Notice]) -> Iterator[Child]:
    registry = reading.registry
    yield moment_of(reading)
    yield from _notices(reading, found)
    if registry is None:
        unread = [_unread(rule) for rule in reading.config.rules]
        yield section("Policies", table("Policies of the file", unread, columns=COLUMNS[:2]), id_="policies")
        yield tag("p", _silence(reading), class_="quiet")
        return
    rows = (_row(one, registry.now) for one in registry.standings)
    yield section(
        "Policies", table("What each policy holds and does", rows, columns=COLUMNS, numbers=NUMBERS), id_="policies"
    )
    yield section("Providers", _providers(reading, registry), id_="providers")
    yield section("Workers", _machinery(reading, registry), id_="workers")


def _notices(reading: PageReading, found: Sequence[Notice]) -> Iterator[Child]:
    now = reading.registry.now if reading.registry else 0
    for title, level, id_ in (("Waits for somebody", WAITS, "waits"), ("Good to know", KNOW, "know")):
        if chosen := [one for one in found if one.level == level]:
            yield section(title, listed(chosen, now), id_=id_)
    if found:
        yield tag("p", prose(LEFT_OUT), class_="quiet")


def _silence(reading: PageReading) -> str:
    if reading.answered is None:
        return "It has not answered since this exporter began."
    return f"It last answered {durations.show(max(1.0, reading.at - reading.answered))} ago."


def _unread(rule: Rule) -> Cells:
    at = rule.partition
    told = tag("span", f"the file says {_mode(rule)}", class_="quiet block")
    return (COLUMNS[0], _link(at.policy, at.provider, at.kind)), (COLUMNS[1], [badge("unknown", "calm"), told])


def _link(policy: str, provider: str, kind: str) -> list[Child]:
    at = tag("a", name_of(policy), href=f"policy/{quote(policy, safe='')}#{quote(f'{provider}-{kind}')}")
    return [at, tag("span", f" {kind} of {name_of(provider)}", class_="quiet block")]


def _row(one: PolicyStanding, now: int) -> Cells:
    view, at = one.view, one.view.partition
    values: tuple[Child, ...] = (
        _link(at.policy, at.provider, at.kind),
        [state(one), *(tag("span", text, class_="quiet block") for text in remarks(one))],
        number(view.registered),
        number(view.due) if view.configured else NONE,
        span(view.overdue),
        number(view.parked + view.kept),
        number(view.waiting),
        tag("strong", f"{view.quarantined:,}", class_="bad") if view.quarantined else number(0),
        number(one.already_gone),
        when(one.woken, now) if one.woken else "never",
        _next(one, now),
    )
    return tuple(zip(COLUMNS, values, strict=True))


def remarks(one: PolicyStanding) -> Iterator[str]:
    """Say what goes on by itself."""
    if one.rule is None:
        return
    if one.view.ramped:
        yield "first enforcement, step by step"
    if one.view.limited:
        yield "its pace is used up"
    if one.digest and one.digest != one.rule.digest:
        yield "a new version that workers have not taken up"


def _effort(reading: PageReading, one: PolicyStanding) -> Child:
    """Say what deleting what is due takes."""
    if one.rule is None or not one.view.due or stopped(one):
        return None
    account = reading.config.accounts[one.rule.partition.provider]
    said = formatting.effort(one.rule, account, one.view)
    return tag("span", f"would send {said}" if one.state == "observing" else said, class_="quiet block")


def _next(one: PolicyStanding, now: int) -> Child:
    """Return when beat wakes the next sweep; one that is halted or paused is woken, and looks whether it still is."""
    if one.rule is None or not one.woken:
        return NONE
    at = one.woken + one.rule.every * 1000
    late = (now - at) / 1000
    if late >= LATE:
        return tag("span", f"{durations.show(late)} late", class_="warn")
    return when(at, now) if at > now else "now"


def _providers(reading: PageReading, registry: RegistryReading) -> Child:
    needed = dict.fromkeys(reading.config.accounts, 0)
    for one in registry.standings:
        if one.rule:
            at = one.rule.partition.provider
            needed[at] += formatting.requests(one.rule, reading.config.accounts[at], one.view)
    columns = ("Provider", "Type", "State", "Requests for what is due", "Takes")
    rows = (
        (
            (columns[0], name),
            (columns[1], account.type),
            (columns[2], _reachable(name, registry)),
            (columns[3], number(needed[name])),
            (columns[4], estimate.forecast(needed[name], account.rate) if needed[name] else NONE),
        )
        for name, account in reading.config.accounts.items()
    )
    return table("The accounts of the file", rows, columns=columns, numbers=columns[3:4])


def _reachable(name: str, registry: RegistryReading) -> Child:
    flow = registry.flows[name]
    if "breaker" in flow or any(slot.shut for slot in registry.slots if slot.provider == name):
        return badge("held back", "bad")
    return badge("waits", "warn") if causes.waits(name, flow, registry.now) else badge("open", "good")


def _machinery(reading: PageReading, registry: RegistryReading) -> Child:
    swept = max((one.woken for one in registry.standings if one.woken), default=None)
    facts: dict[str, Child] = {
        "Last sweep": when(swept, registry.now) if swept else "never",
        "Beat": capital(registry.beat[1]),
        "Wake-ups that came back": capital(registry.tick[1]),
        "Policy file here": f"version {reading.config.hash}",
        "Policy file of workers": f"version {registry.workers[1]}, says {registry.workers[0]}"
        if registry.workers
        else NONE,
        "Registry begun": when(registry.began, registry.now),
    }
    return facts_of(facts)


def facts_of(facts: Mapping[str, Child]) -> Child:
    """Return names and what they are."""
    return tag("dl", (tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()))


def one_policy(reading: PageReading, asked: PageRequest) -> tuple[int, bytes]:
    """Return one policy: each kind that it is of, with all of its numbers."""
    name = unquote(asked.path.removeprefix(POLICY))
    registry, found = reading.registry, notices(reading)
    standings = [one for one in registry.standings if one.view.partition.policy == name] if registry else []
    rules = [rule for rule in reading.config.rules if rule.partition.policy == name]
    if registry is None and rules:
        mine: Sequence[Notice] = found
        main: list[Child] = [moment_of(reading), *_notices(reading, found), tag("p", _silence(reading), class_="quiet")]
    elif registry is None or not standings:
        return 404, _unknown(reading, name)
    else:
        covered = [one.view.partition for one in standings]
        mine = [one for one in found if any(one.concerns(partition) for partition in covered)]
        main = [
            moment_of(reading),
            *_notices(reading, mine),
            *(_standing(reading, one, registry) for one in standings),
        ]
    return 200, document(f"{name_of(name)} - lapse", head(reading, summary(reading, mine), name, back="../"), main)


def _unknown(reading: PageReading, name: str) -> bytes:
    where = "in the policy file, and the registry does not answer" if reading.registry is None else "anywhere"
    said = "warn", f"There is no policy {name_of(name)} {where}."
    main = tag("p", tag("a", "All policies", href="../"))
    return document("No such policy - lapse", head(reading, said, name, back="../"), [moment_of(reading), main])


def _standing(reading: PageReading, one: PolicyStanding, registry: RegistryReading) -> Child:
    view, rule, at = one.view, one.rule, one.view.partition
    kinds = formatting.plural(at.kind)
    facts: dict[str, Child] = {
        "State": [state(one), *(tag("span", f" {text}", class_="quiet") for text in remarks(one))],
        "Registered": number(view.registered),
    }
    if rule:
        facts |= _of_rule(reading, one, rule, registry)
    said = tag("p", _deletes(rule)) if rule else None
    return section(f"{kinds} of {name_of(at.provider)}", said, facts_of(facts), id_=f"{at.provider}-{at.kind}")


def _of_rule(reading: PageReading, one: PolicyStanding, rule: Rule, registry: RegistryReading) -> Mapping[str, Child]:
    view, now = one.view, registry.now
    return {
        "Due": [number(view.due), _effort(reading, one)],
        "Oldest overdue": span(view.overdue),
        "Held or used": number(view.parked),
        "Kept by a rule": number(view.kept),
        "Waiting for another attempt": number(view.waiting),
        "Being deleted": number(view.claimed),
        "Quarantined": number(view.quarantined),
        **{f"Orphans, {name}": number(count) for name, count in sorted(view.orphans.items())},
        "Deleted, confirmed": number(_deleted(rule, registry)),
        "Already gone": number(one.already_gone),
        "Pace": formatting.pace(rule),
        "Last sweep": when(one.woken, now) if one.woken else "never",
        "Last that ended well": when(view.last_success * 1000 if view.last_success else None, now),
        "Next sweep": _next(one, now),
    }


def _deletes(rule: Rule) -> str:
    """Say what a rule deletes and when, without the names and labels that it keeps."""
    said = formatting.does(replace(rule, keep=()))
    keeps = ", never those that a keep rule matches" if rule.keep else ""
    return f"{capital(said.rpartition('; ')[0])}{keeps}. The file says {_mode(rule)}."


def _mode(rule: Rule) -> str:
    return "enforce" if rule.enforce else "observe"


def _deleted(rule: Rule, registry: RegistryReading) -> int:
    at = rule.partition
    names = (at.policy, *rule.formerly)
    return sum(
        slot.counters.get(f"deletions|{name}|{at.kind}", 0)
        for slot in registry.slots
        for name in names
        if (slot.provider, slot.kind) == (at.provider, at.kind)
    )
