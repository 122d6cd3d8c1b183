"""The oracle: everything that is wrong with one run. It imports nothing of lapse, and believes none of it.

early        claimed before the time that all acknowledged calls give (ttl, anchor, max_age, own expiry)
held         claimed after a hold was acknowledged
forgotten    claimed after a forget was acknowledged
moved        claimed by a policy it had been moved away from
referenced   claimed while something alive used it
unasked      claimed without ever being registered, or under a policy that does not enforce
overdue      due, and not settled or quarantined within the bound
duplicate    a DELETE sent again: at most crashes x requests in flight, 0 without crashes
rate         more requests in some window [t, t + T] than rate x T + burst
pace         more deletions than max_deletions in some window of the pace
record       a DELETE without its intent, or not exactly one terminal record for a deletion
unconfirmed  an outcome recorded that no answer bears out
uncounted    a deletion that the provider confirmed, of an object, a child or an item, and the metric does not have once
living       settled as deleted or already_gone, and the provider has it
count        a counter that differs from the history
lost         an id that was registered, not settled, and is not tracked
secret       a key or password in anything that was written
unproven     already_gone without a sign, asked for after it, that the provider answers for the right place
jump         claims by new rules that made more than max_newly_due due at once, without an approval
untouched    claims by last activity where no touch was ever recorded
unused       orphans claimed where no use was ever recorded
quiet        a DELETE while paused or halted
ramp         a first enforcement that deleted more than ten in its first step
breaker      an outage that was asked more than once in ten seconds after it was seen
"""

from collections.abc import Collection, Iterator

from oracle import confirmations, counts, guards, leaks, lifetimes, limits, wire
from oracle.audit import Audit
from oracle.history import History, Violation


def violations(history: History, *, without: Collection[str] = ()) -> list[Violation]:
    """Return every violation of a run; ``without``: promises that this run does not make."""
    return [found for found in _all(history) if found.promise not in without]


def _all(history: History) -> Iterator[Violation]:
    audit = Audit(history.audit)
    yield from lifetimes.judge(history, audit)
    yield from wire.judge(history, audit, wire.Transport(history))
    yield from limits.judge(history, audit)
    yield from guards.judge(history, audit)
    yield from counts.judge(history, audit)
    yield from confirmations.judge(history, audit)
    yield from leaks.judge(history)
