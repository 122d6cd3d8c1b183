"""Deletions where latency bounds nobody: 256 at a time, 1 ms away, lapse and a bare loop over aiohttp by turns.

A bare loop deletes and reads the answer; lapse has claimed, proved, settled, counted and audited each one besides.
"""

from bench.deletions import MANY, Drain, Shape, deployed
from bench.figures import Figure, ratio

COUNT = 8000


def measure(rounds: int) -> list[Figure]:
    """Interleave both, and return the figures; a first round warms up."""
    drains: list[Drain] = []
    bare: list[tuple[float, float]] = []
    with deployed(Shape("1ms", concurrency=MANY)) as deployment:
        for _ in range(rounds + 1):
            drains.append(deployment.drain(COUNT))
            bare.append(deployment.compared("aiohttp", COUNT, MANY))
    ours, theirs = [drain.rate for drain in drains[1:]], [rate for rate, _ in bare[1:]]
    cpu, bare_cpu = [drain.cpu for drain in drains[1:]], [spent for _, spent in bare[1:]]
    return [
        Figure(f"deletions/s, lapse, {MANY} at a time, 1 ms", ours, None),
        Figure(f"deletions/s, aiohttp loop, {MANY} at a time, 1 ms", theirs, None),
        ratio("deletions/s, lapse to the aiohttp loop", ours, theirs, ">=", 0.5),
        Figure("CPU per deletion, lapse's process tree, us", cpu, None),
        Figure("CPU per deletion, aiohttp loop, us", bare_cpu, None),
        Figure(
            "CPU per deletion, lapse to the aiohttp loop", [a / b for a, b in zip(cpu, bare_cpu, strict=True)], None
        ),
        Figure("CPU of Redis per deletion, us", [drain.redis for drain in drains[1:]], None),
    ]


__all__ = ["measure"]
