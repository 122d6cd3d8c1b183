"""The figures as a table in Markdown and as a chart in SVG, drawn by hand: a dozen lines need no library."""

import math
from collections.abc import Iterator, Mapping, Sequence

from bench.scale.parts import Slowest

GOALS = ("claim, us an id", "settle, us an id", "survey, ms", "lapse status, s", "scrape, ms")
GOAL, SLOW = 1.5, 10.0
WIDTH, HEIGHT, LEFT, TOP = 760, 420, 60, 20
PLOT = 420
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")

Figures = Mapping[str, Mapping[int, float]]
"""Name -> size -> value."""


def table(figures: Figures, slowest: Mapping[str, Mapping[int, Slowest]]) -> str:
    """Return the table: sizes beside each other, the last to the first, and the slowest Redis command at the last."""
    sizes = sorted({size for by_size in figures.values() for size in by_size})
    lines = [
        f"| | {' | '.join(f'{size:,}' for size in sizes)} | last to first | slowest Redis command at the last, ms |",
        f"|---|{'---|' * (len(sizes) + 2)}",
    ]
    for name, by_size in figures.items():
        cells = " | ".join(_number(by_size[size]) for size in sizes)
        first = by_size[sizes[0]]
        ratio = f"{by_size[sizes[-1]] / first:.2f}" if first else ""
        goal = f" (goal {GOAL})" if name in GOALS else ""
        worst = slowest[name][sizes[-1]] if name in slowest else None
        slow = f"{_number(worst.ms)} {worst.command}" if worst and worst.ms else ""
        lines.append(f"| {name} | {cells} | {ratio}{goal} | {slow} |")
    return "\n".join(lines) + "\n"


def missed(figures: Figures, slowest: Mapping[str, Mapping[int, Slowest]]) -> list[str]:
    """Return what did not reach its goal, in words."""
    sizes = sorted(figures[GOALS[0]])
    found = [
        f"{name}: {ratio:.2f} times that of {sizes[0]:,}, the goal is {GOAL}"
        for name in GOALS
        if (ratio := figures[name][sizes[-1]] / figures[name][sizes[0]]) > GOAL
    ]
    return found + [
        f"{name}: {worst.command} took {worst.ms:.1f} ms"
        for name, by_size in slowest.items()
        if (worst := by_size[sizes[-1]]).ms > SLOW
    ]


def chart(figures: Figures) -> str:
    """Return the chart: what each call takes in a larger registry, to what it takes in the smallest one."""
    chosen = {name: by_size for name, by_size in figures.items() if name.rpartition(", ")[2] not in {"GB", name}}
    sizes = sorted(next(iter(chosen.values())))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    )
    return head + "".join((*_axes(sizes), *_lines(chosen, sizes))) + "</svg>\n"


def _axes(sizes: Sequence[int]) -> Iterator[str]:
    for times in (0.5, 1, 2, 5, 10, 20, 50, 100):
        y = _y(times)
        yield f'<line x1="{LEFT}" x2="{LEFT + PLOT}" y1="{y:.0f}" y2="{y:.0f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{times:g}x</text>'
    for size in sizes:
        x = _x(size, sizes)
        yield f'<text x="{x:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{size:,} ids</text>'


def _lines(figures: Figures, sizes: Sequence[int]) -> Iterator[str]:
    for number, (name, by_size) in enumerate(figures.items()):
        colour = COLOURS[number % len(COLOURS)]
        first = by_size[sizes[0]] or math.inf
        points = " ".join(f"{_x(size, sizes):.0f},{_y(by_size[size] / first):.0f}" for size in sizes)
        dash = ' stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
        y = TOP + 18 * number
        x = LEFT + PLOT + 20
        yield f'<line x1="{x}" x2="{x + 25}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"{dash}/>'
        yield f'<text x="{x + 32}" y="{y + 4}">{name.rpartition(",")[0]}</text>'


def _x(size: int, sizes: Sequence[int]) -> float:
    span = math.log(sizes[-1] / sizes[0]) or 1
    return LEFT + PLOT * math.log(size / sizes[0]) / span


def _y(times: float) -> float:
    floor, ceiling = math.log(0.4), math.log(150)
    part = (math.log(max(times, 0.4)) - floor) / (ceiling - floor)
    return HEIGHT - 40 - (HEIGHT - 40 - TOP) * part


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
