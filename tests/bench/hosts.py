"""What more worker processes delete, the provider near and far, and what a deletion takes of their one Redis.

Four policies of one kind, whatever the number of processes: each sweep is one process' at a time. With 1 and 2 cores
the processes, the stand-in and Redis share them, and only what a deletion takes of Redis carries over.
"""

from bench.deletions import Shape, deployed
from bench.figures import Figure

LATENCIES = ("1ms", "20ms")
PROCESSES = (1, 2, 4)
POLICIES = ("chat", "tool", "mail", "voice")
COUNT = 8000


def measure(rounds: int) -> list[Figure]:
    """Return deletions a second, and microseconds of Redis for one, of each number of processes."""
    figures: list[Figure] = []
    carried: list[float] = []
    for latency in LATENCIES:
        for processes in PROCESSES:
            with deployed(Shape(latency, workers=processes, policies=POLICIES, crowded=False)) as deployment:
                drains = [deployment.drain(COUNT) for _ in range(rounds + 1)][1:]
            where = f"provider {latency} away, {processes} worker processes"
            figures += [
                Figure(f"deletions/s, {where}", [drain.rate for drain in drains], None),
                Figure(f"CPU of Redis per deletion, us, {where}", [drain.redis for drain in drains], None),
                Figure(f"CPU of the processes per deletion, us, {where}", [drain.cpu for drain in drains], None),
            ]
            carried += [drain.redis for drain in drains]
    limit = [1e6 / one for one in carried]
    return [*figures, Figure("deletions/s at which one Redis' thread has no time left", limit, None)]


__all__ = ["measure"]
