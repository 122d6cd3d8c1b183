"""Celery's tasks: wake-ups. What there is to do, the registry knows."""

from typing import Any

from lapse.app import app
from lapse.registry.model import Partition
from lapse.runtime import loop
from lapse.runtime.messages import HOUSEKEEPING, SWEEP_EXPIRED, SWEEP_ORPHANS


@app.task(name=SWEEP_EXPIRED, bind=True)  # type: ignore[untyped-decorator]
def sweep_expired(self: Any, provider: str, kind: str, policy: str, sent: int | None = None) -> None:  # noqa: ANN401 - Celery's own task
    """Sweep a partition for one slice of time; what is left then goes to the end of the queue."""
    if again := loop.of(app.host).sweep(Partition(provider, kind, policy), sent):
        self.apply_async((provider, kind, policy), {"sent": again})
    for other, at in loop.of(app.host).freed().items():
        self.apply_async((other.provider, other.kind, other.policy), {"sent": at})


@app.task(name=SWEEP_ORPHANS, bind=True)  # type: ignore[untyped-decorator]
def sweep_orphans(self: Any, provider: str, kind: str, policy: str, sent: int | None = None) -> None:  # noqa: ANN401 - Celery's own task
    """Look for orphans in a partition; a worker whose rules are superseded sends the message on."""
    if again := loop.of(app.host).sweep(Partition(provider, kind, policy), sent):
        self.apply_async((provider, kind, policy), {"sent": again})


@app.task(name=HOUSEKEEPING)  # type: ignore[untyped-decorator]
def housekeeping(sent: int | None = None) -> None:
    """Record that beat's tick arrived, publish what this worker knows, move audit records, clean up."""
    loop.of(app.host).housekeep(sent)
