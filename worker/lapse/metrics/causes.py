"""Why requests do not go out, and which workers are gone: sentences that name the cause, since when, and until when.

No I/O. All times are registry milliseconds.
"""

from collections.abc import Mapping
from typing import Any

from lapse.moments import both, next_try, told

CAUSES = {
    "auth": "refuses the credentials",
    "quota": "says that the quota is used up",
    "outage": "does not answer as it should",
}
RECENT = 600_000
"""Milliseconds within which a process with something to do has shown itself."""


def breaker(provider: str, throttle: Mapping[str, str], now: int) -> str | None:
    """Say what holds requests to a provider back: since when, with which answer and key; None while nothing does."""
    why = throttle.get("breaker")
    if why is None:
        return None
    said = (
        f"{provider}: breaker open ({why}): {CAUSES.get(why, 'holds requests back')} since {both(since(throttle), now)}"
    )
    if detail := throttle.get("cause_detail"):
        said += f": {detail}"
    if why == "auth" and (key := throttle.get("cause_key")):
        said += f"; with the key of {key}"
    return f"{said}; one request tries again {next_try(int(throttle.get('breaker_until', 0)), now)}"


def since(throttle: Mapping[str, str]) -> int:
    """Return since when what opened the breaker has lasted; 0 if nobody wrote that down."""
    return max(int(throttle.get("breaker_since", 0)), int(throttle.get("cause_since", 0)))


def waits(provider: str, throttle: Mapping[str, str], now: int) -> str | None:
    """Say until when a provider's Retry-After keeps requests back; None if it does not."""
    until = int(throttle.get("blocked_until", 0))
    return f"{provider}: its Retry-After ends {both(until, now)}; until then nothing is sent" if until > now else None


def shut(name: str, state: tuple[str, str, int] | None, now: int) -> str | None:
    """Say what keeps requests of one (provider, kind) back, by its breaker of its own; None while it is closed."""
    if state is None:
        return None
    why, detail, until = state
    return f"{name}: breaker open ({why}): all ids are answered so: {detail}; one is tried again {next_try(until, now)}"


def full(name: str, pending: int, most: int) -> str | None:
    """Say that nothing of one (provider, kind) is claimed as too many audit records wait; None where it is."""
    if pending < most:
        return None
    return f"{name}: {pending:,} audit records wait for their sink; until a worker moves them there, nothing is deleted"


def gone(workers: Mapping[str, Mapping[str, Any]], now: int, within: int = RECENT) -> list[str]:
    """Name the hosts of which processes were there within the last hour and none has shown itself lately.

    Args:
        workers: host:pid -> ``at``, as the registry has them.
        now: Registry time.
        within: Milliseconds that count as lately.

    """
    hosts: dict[str, list[int]] = {}
    for name, one in workers.items():
        hosts.setdefault(name.rpartition(":")[0], []).append(int(one["at"]))
    return [
        f"{host} was last seen {told(max(seen), now)}"
        for host, seen in sorted(hosts.items())
        if now - max(seen) > within
    ]
