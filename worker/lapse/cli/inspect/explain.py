"""``lapse explain``: one id, and why it will or will not be deleted."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.inspect import reasons
from lapse.cli.inspect.audit import answer_of
from lapse.cli.inspect.docs import tell_words
from lapse.cli.inspect.ls import of_subject
from lapse.cli.inspect.reasons import Case
from lapse.cli.options import FILE, json_option, resource_or_subject
from lapse.ledger.erasure.members import covering
from lapse.ledger.records import Seen, look
from lapse.registry import keys
from lapse.registry.model import Partition, Resource, deleted_at

SHOWN = 50
"""How many ids of a subject are explained at once."""


@click.command()
@resource_or_subject
@click.option(
    "--audit", "audit", type=FILE, multiple=True, help="Where audit records are, if not in [audit] sink. Repeatable."
)
@with_session
@json_option
def explain(
    *, session: Invocation, kind: str, id_: str, subject: str | None, audit: tuple[Path, ...], as_json: bool
) -> None:
    """Say why an id will or will not be deleted, and when.

    Times come from the policy file as it is now: what it makes due is due, whatever it said before.
    With --subject, of all that is a subject's, a line each.

    Examples:
      lapse explain conversation conv_68a1
      lapse explain thread thread_abc --json
      lapse explain thread thread_gone --audit audit.jsonl
      lapse explain --subject user:42

    """
    if subject is not None:
        _of_subject(session, subject, as_json=as_json)
        return
    case = session.run(lambda access: _case(access, session, Resource(session.provider, kind, id_), audit))
    sentences = reasons.explain(case, session.config)
    if as_json:
        output.document(_described(case, sentences))
        return
    first, *others = sentences
    output.say(first, output.STRONG)
    for sentence in others:
        output.say(sentence, output.STRONG if sentence.startswith(" ") else "")
    tell_words(_words(case))


def _words(case: Case) -> Iterator[str]:
    """Yield what is said of an id that the documents explain."""
    if case.seen.tracked:
        yield case.seen.state
        yield case.seen.by
    if case.rule and not case.rule.enforce:
        yield "observe"
    if case.view:
        yield from (halt.reason for halt in case.view.halts)
    if case.shut:
        yield "breaker"


def _of_subject(session: Invocation, subject: str, *, as_json: bool) -> None:
    """Tell of each id of a subject what is the matter with it, in a line."""
    page = session.registry_of(None).resources(subject=subject, limit=SHOWN)

    async def read(access: RegistryAccess) -> list[Case]:
        return [await _case(access, session, one.resource) for one in page.records]

    told = [(case, reasons.explain(case, session.config)) for case in session.run(read)]
    if as_json:
        output.records(_described(case, sentences) for case, sentences in told)
    else:
        for case, sentences in told:
            at = case.partition
            output.say(f"{at.provider} {at.kind} {case.seen.id}: {sentences[0]}")
    for text, style in of_subject(page, subject, shlex.join(["lapse", "ls", "--subject", subject])):
        output.note(text, style)


async def _case(access: RegistryAccess, session: Invocation, resource: Resource, audit: Sequence[Path] = ()) -> Case:
    rules, (provider, kind, id_) = session.config.rules, astuple(resource)
    (seen,) = await look(access.ledger, provider, kind, [id_], rules)
    slot = keys.slot(session.namespace, provider, kind)
    policy = str(seen.record.get("p", ""))
    orphan = [rule.partition.policy for rule in rules if rule.partition.kind == kind and rule.orphan]
    sighted_in = keys.partition(session.namespace, provider, kind, policy or next(iter(orphan), ""))
    forgotten, grave, deleted, digest, sighting = await access.carrier.run(
        [
            ("ZSCORE", slot + keys.FORGOTTEN, id_),
            ("HEXISTS", slot + keys.GRAVES, id_),
            ("ZSCORE", slot + keys.DELETED, id_),
            ("HGET", keys.partition(session.namespace, provider, kind, policy) + keys.RULES, "digest"),
            ("HGET", sighted_in + keys.SIGHTINGS, id_),
        ]
    )
    partition = Partition(provider, kind, policy)
    rule = session.rule_for(partition)
    return Case(
        partition=partition,
        seen=seen,
        rule=rule,
        view=session.view.partitions([rule], {}, ramp=session.config.sweep.ramp)[0] if rule else None,
        pauses=await access.control.pauses(),
        throttle=session.view.throttle(provider),
        digest=digest.decode() if digest else "",
        forgotten=int(float(forgotten)) if forgotten else None,
        grave=bool(grave),
        deleted=deleted_at(float(deleted)) if deleted else None,
        answer=None if seen.tracked else answer_of(session, resource, audit),
        shut=session.view.slots([(provider, kind)])[0].shut,
        sighting=json.loads(sighting) if sighting else None,
        erased_by=await covering(access.ledger, resource, seen),
    )


def _described(case: Case, sentences: list[str]) -> dict[str, Any]:
    seen = case.seen
    return {
        "provider": case.partition.provider,
        "kind": case.partition.kind,
        "id": seen.id,
        "tracked": seen.tracked,
        "policy": case.partition.policy or None,
        "managed": case.rule is not None,
        "state": seen.state if seen.tracked else "unknown",
        "due": _time(seen, seen.due),
        "governed_by": seen.by if seen.tracked else None,
        "created_at": _time(seen, seen.created),
        "last_active_at": _time(seen, seen.active),
        "hold": seen.hold,
        "used_by": list(seen.used_by),
        "erased_by": list(case.erased_by),
        "attempts": seen.record.get("n", 0),
        "reason": seen.record.get("r"),
        "deleted_at": formatting.iso(reasons.gone_at(case), "milliseconds")
        if not seen.tracked and not case.grave
        else None,
        "answer": dict(case.answer) if case.answer else None,
        "breaker": {"reason": case.shut[0], "detail": case.shut[1], "until": case.shut[2] / 1000}
        if case.shut
        else None,
        "sentences": [sentence.strip() for sentence in sentences],
    }


def _time(seen: Seen, millis: int | None) -> str | None:
    return formatting.iso(millis, "milliseconds") if seen.tracked else None
