"""Records what Prometheus answers to the overview while a small lapse works: ``make picture`` draws it.

Five minutes of an application that registers conversations and threads, a policy that only observes, one id that the
provider refuses, a typing error in the application, and an outage of the provider from which the workers recover.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.deployment import Deployment, policy
from support.promql import filled
from tools.prometheus import PROMETHEUS
from tools.stage import Stage, staged

BOARD = PROMETHEUS.parent / "grafana" / "overview.json"
SECONDS, STEP = 300, 2
OUTAGE = range(80, 110)
DOWN = [{"effect": "error", "status": 503}]
RATE = "30s"


def wait(condition: Callable[[], object], within: float = 60, *, what: str = "the condition") -> None:
    """Wait on a condition with a deadline."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.2)


def record(folder: Path) -> dict[str, Any]:
    """Run it, and return the answers to each query of the overview."""
    with staged(folder, wait) as stage:
        _configure(stage.lapse)
        bad = stage.seed(1, "support")
        stage.seed(3, "suport")
        stage.lapse.worker(children=2)
        stage.lapse.beat()
        began = time.time()
        provider = stage.accounts["openai"]
        refused = {"method": "DELETE", "ids": bad, "effect": "error", "status": 422}
        provider.faults([refused])
        while (second := int(time.time() - began)) < SECONDS:
            if second in {OUTAGE.start, OUTAGE.stop}:
                provider.faults([refused, *(DOWN if second == OUTAGE.start else [])])
            _work(stage, second)
            time.sleep(max(0.0, began + second + 1 - time.time()))
        return {"from": began, "to": time.time(), "answers": _answers(stage, began, time.time())}


def _configure(lapse: Deployment) -> None:
    at = {"provider": '"openai"'}
    account = (
        f'[providers.openai]\ntype = "openai"\nbase_url = "{lapse.provider.url}"\napi_key_env = "OPENAI_API_KEY"\n'
    )
    lapse.configure(
        account + 'rate = "2400/m"\n',
        policy("chat", kind="conversation", ttl="20s", **at),
        policy("support", ttl="30s", **at),
        policy("pilot", kind="conversation", ttl="10s", mode="observe", **at),
        head='[registry]\nallow_volatile = true\n[schedule]\nsweep = "1s"\n[sweep]\nbudget = "5s"\nlease = "20s"\n'
        'ramp = "off"\n[audit]\nsink = "file:{directory}/audit.jsonl"\n'
        '[limits]\nmax_deletions = "unlimited"\nmax_newly_due = "unlimited"\n',
    )


def _work(stage: Stage, second: int) -> None:
    """Be the application for one second: as busy as it is at this time of its day."""
    busy = 4 + abs(second % 80 - 40) // 8
    stage.seed(busy, "chat", kind="conversation")
    stage.seed(busy // 2, "support")
    if second % 10 == 0:
        stage.seed(1, "pilot", kind="conversation")


def _answers(stage: Stage, began: float, ended: float) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    span = {"start": f"{began:.0f}", "end": f"{ended:.0f}", "step": str(STEP)}
    for panel in json.loads(BOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = filled(target["expr"]).replace("[5m]", f"[{RATE}]")
            instant = target.get("instant", False)
            data = stage.prometheus.ask("query" if instant else "query_range", query=query, **({} if instant else span))
            answers[f"{panel['id']} {target['refId']}"] = data["result"]
    return answers


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        recorded = record(Path(made))
    Path(sys.argv[1]).write_text(json.dumps(recorded) + "\n", encoding="utf-8")
    sys.stderr.write(f"recorded {len(recorded['answers'])} queries\n")
