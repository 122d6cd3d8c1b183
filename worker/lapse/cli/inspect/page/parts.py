"""What both pages have: the head, notices, states, times, and tables that become cards where a screen is narrow."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from lapse import durations, moments
from lapse.cli import formatting
from lapse.cli.inspect.page.markup import Child, command, name_of, prose, tag
from lapse.cli.inspect.page.notices import WAITS, Notice
from lapse.cli.inspect.page.reading import PageReading
from lapse.cli.inspect.status import PolicyStanding
from lapse.metrics.snapshot import UNMANAGED
from lapse.registry.model import from_millis

NONE, ZERO = "-", "0"
"""What draws no eye, and is left out where a screen is narrow."""
LEVELS = {
    "enforcing": "good",
    "observing": "calm",
    "limited": "calm",
    "paused": "warn",
    "halted": "bad",
    UNMANAGED: "warn",
    "unknown": "calm",
}

Cells = Sequence[tuple[str, Child]]
"""A row: each cell with the title of its column."""


def head(reading: PageReading, standing: tuple[str, str], here: str = "", *, back: str = "") -> Iterator[Child]:
    """Yield the head of a page: where one is, how things are in one sentence, and what a viewer may do."""
    deployment = reading.config.registry.deployment
    level, said = standing
    name = tag("span", f" {name_of(deployment)}", class_="deployment") if deployment else None
    title: Child = [tag("a", "lapse", href=back), " / ", name_of(here)] if back else "lapse"
    yield tag("div", tag("h1", title, name), tag("p", _controls()), class_="bar")
    yield tag("p", said, id="said", class_=f"said {level}", role="status", aria_live="polite")


def _controls() -> Iterator[Child]:
    yield tag("button", "Pause", id="pause", type="button", hidden="hidden")
    yield " "
    yield tag("a", "Look again", href="?")


def summary(reading: PageReading, found: Sequence[Notice]) -> tuple[str, str]:
    """Return how things are: a level, and one sentence."""
    if reading.registry is None:
        return "bad", "The registry does not answer."
    waiting = sum(one.level == WAITS for one in found)
    if waiting:
        return "bad", f"{formatting.count(waiting, 'thing waits', 'things wait')} for somebody."
    if found:
        return "warn", f"Nothing waits for anybody. {formatting.count(len(found), 'thing')} to know."
    return "good", "All is well: nothing waits for anybody."


def moment_of(reading: PageReading) -> Element:
    """Return when a page was read."""
    text = datetime.fromtimestamp(reading.at, UTC).isoformat(timespec="seconds")
    return tag("p", "Read at ", tag("time", f"{text[11:19]} UTC", datetime=text), ".", class_="quiet read")


def when(millis: float | None, now: int) -> Child:
    """Return a time as it is seen from now, with the date for who asks."""
    if not millis:
        return NONE
    said = moments.told(millis, now)
    try:
        moment = from_millis(millis)
    except (OverflowError, OSError, ValueError):  # a clock was wrong, and there is no such date
        return said
    return (
        tag("time", said, datetime=moment.isoformat(timespec="seconds"), title=moments.clock(moment))
        if moment
        else said
    )


def state(one: PolicyStanding) -> Element:
    """Return what a policy does, in one word."""
    return badge(one.state.strip("()"), LEVELS[one.state])


def badge(word: str, level: str) -> Element:
    """Return one word with its colour, which says nothing that the word does not."""
    return tag("span", word, class_=f"badge {level}")


def section(title: str, *children: Child, id_: str) -> Element:
    """Return a part of a page with its heading."""
    return tag("section", tag("h2", title, id=id_), children, aria_labelledby=id_)


def listed(found: Iterable[Notice], now: int) -> Element:
    """Return notices, each with what to type."""
    return tag("ul", (tag("li", _notice(one, now), class_=f"notice {one.level}") for one in found), class_="notices")


def _notice(one: Notice, now: int) -> Iterator[Child]:
    since = tag("span", " ", when(one.since, now), class_="quiet") if one.since else None
    yield tag("h3", prose(one.title), since)
    for text in one.body:
        yield tag("p", command(text.strip())) if text.startswith(" ") else tag("p", prose(text))


def table(title: str, rows: Iterable[Cells], *, columns: Sequence[str], numbers: Iterable[str] = ()) -> Element:
    """Return a table that says its roles itself: as cards, which a narrow screen gets, it would lose them."""
    right = set(numbers)
    heads = (
        tag("th", name, scope="col", role="columnheader", class_="number" if name in right else "") for name in columns
    )
    return tag(
        "table",
        tag("caption", title),
        tag("thead", tag("tr", heads, role="row"), role="rowgroup"),
        tag("tbody", (tag("tr", _cells(row, right), role="row") for row in rows), role="rowgroup"),
        role="table",
    )


def _cells(row: Cells, right: set[str]) -> Iterator[Element]:
    (first, name), *rest = row
    yield tag("th", name, scope="row", role="rowheader", data_label=first)
    for title, value in rest:
        classes = [*(["number"] if title in right else []), *(["nothing"] if value in (NONE, ZERO) else [])]
        yield tag("td", tag("div", value), role="cell", data_label=title, class_=" ".join(classes))


def number(value: int) -> Child:
    """Return a number."""
    return f"{value:,}"


def span(seconds: float) -> Child:
    """Return a duration, if there is any to speak of."""
    return durations.show(seconds) if seconds >= 1 else NONE
