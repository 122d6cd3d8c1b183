"""``lapse demo``: the main job on real parts, with nothing installed or configured, judged by the provider."""

import signal
import sys
import time
from collections import Counter
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lapse import Registry
from lapse.sandbox.demo.application import Application
from lapse.sandbox.demo.stage import Stage, StageError
from lapse.sandbox.demo.verdict import DemoVerdict, judge

PATIENCE = 45.0
TOUCH_EVERY = 2.0
USED_ONCE_MORE_AFTER = 4.0


def main() -> int:
    """Run the demo; return 0 if everything due is gone, everything else alive, and every count true."""
    signal.signal(signal.SIGTERM, _interrupted)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    began = time.monotonic()
    try:
        with Stage() as stage:
            stage.start(console.print)
            verdict = _play(stage, console)
    except KeyboardInterrupt:
        console.print("interrupted; every process of the demo has ended")
        return 130
    except StageError as error:
        console.print(f"the demo could not run: {error}", markup=False)
        return 1
    console.print(f"took {time.monotonic() - began:.0f} s")
    sys.stdout.write(verdict.line() + "\n")
    return 0 if verdict.good else 1


def _play(stage: Stage, console: Console) -> DemoVerdict:
    with Registry(stage.redis.url, provider="sandbox", timeout=5, on_error="raise") as registry:
        application = Application(stage.provider, registry)
        application.populate()
        _introduce(application, console)
        _watch(stage, application, console)
        application.settle()
        verdict = _settled(stage, application)
    _conclude(application, stage, verdict, console)
    return verdict


def _introduce(application: Application, console: Console) -> None:
    console.print(f"the application registered {sum(one.registered for one in application.objects.values())} ids:")
    for title, count in Counter(one.title for one in application.objects.values()).items():
        console.print(f"  {count:5}  {title}")


def _watch(stage: Stage, application: Application, console: Console) -> None:
    """Touch what is in use and show progress until everything due is gone, or patience ends."""
    due = {one.id for one in application.objects.values() if one.due is not None and one.group != "in use"}
    began, used_again, shown = time.monotonic(), False, -1
    columns = (TextColumn("expired and gone"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("gone", total=len(due))
        while time.monotonic() - began < PATIENCE:
            stage.check()
            application.use("in use")
            if not used_again and time.monotonic() - began > USED_ONCE_MORE_AFTER:
                application.use("used once more")
                used_again = True
            gone = len(due - _alive(stage))
            progress.update(bar, completed=gone)
            if not console.is_terminal and gone != shown:
                console.print(f"  {time.monotonic() - began:4.0f} s  gone {gone} of {len(due)}")
                shown = gone
            if gone == len(due):
                return
            time.sleep(TOUCH_EVERY)


def _settled(stage: Stage, application: Application) -> DemoVerdict:
    """Judge once the last batch of outcomes is recorded, a moment after its deletions."""
    deadline = time.monotonic() + 5
    while True:
        application.use("in use")
        verdict = judge(application.objects, _alive(stage), stage.provider_log, stage.metrics())
        if verdict.good or time.monotonic() > deadline:
            return verdict
        time.sleep(0.2)


def _alive(stage: Stage) -> set[str]:
    alive = stage.provider.alive
    return alive("thread") | alive("conversation") | alive("assistant")


def _conclude(application: Application, stage: Stage, verdict: DemoVerdict, console: Console) -> None:
    alive = _alive(stage)
    console.print("asked the provider what is left:")
    counted = Counter((one.title, one.id in alive) for one in application.objects.values())
    for title in dict.fromkeys(title for title, _left in counted):
        console.print(f"  {counted[title, False]:5} gone  {counted[title, True]:5} alive  {title}")
    for kind in sorted(verdict.metric.keys() | verdict.provider_log.keys()):
        console.print(
            f"  {kind}: lapse_deletions_total {verdict.metric.get(kind, 0)}, confirmed in the provider's log "
            f"{verdict.provider_log.get(kind, 0)}"
        )


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
