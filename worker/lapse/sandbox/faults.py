"""The fault script: which requests go wrong, and how. Reading and matching; effects.py carries them out.

A rule matches a request by method, path, kind, ids and page, then by how many such requests there were.
Rules are looked at in order: one with only ``latency`` adds its delay and lets the next be looked at, the
first with an ``effect`` decides.
"""

import json
import math
import random
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from lapse import durations
from lapse.errors import ConfigError
from lapse.sandbox.state import KINDS, Json
from lapse.sandbox.wire import ApiCall, ApiRequest

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
EFFECTS = {
    "error": "answers with `status` and the provider's body, or `body`, `text`, `message`, `code`, `type`",
    "hang": "never answers",
    "reset": "resets the connection (TCP RST) instead of answering",
    "close": "closes the connection instead of answering",
    "cut": "closes the connection in the middle of the answer",
    "deleted_false": "200 that says deleted: false",
    "empty_object": "200 with {}",
    "other_id": "200 that names another id",
    "html": "200 with a page",
    "empty": "200 without a body",
    "no_content": "204",
    "redirect": "302 to a login page",
    "truncated": "200 with the first half of the JSON",
    "sunset": "bare 404 for every thread and assistant endpoint, lists included",
    "wrong_project": "answers as to a key of a project in which nothing exists",
    "list_empty": "a page without data that says has_more",
    "list_loop": "the first page again, whatever the cursor, and has_more",
    "list_last": "the page asked for, and has_more false",
}
BODIES = ("json", "html", "empty")
LISTS = frozenset({"list_empty", "list_loop", "list_last"})
EXECUTABLE = frozenset(EFFECTS) - LISTS - {"sunset", "wrong_project", "cut"}


_Reader = Callable[[Any], Any]
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _that(holds: Callable[[Any], bool], says: str) -> _Reader:
    def reader(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"{value!r} is {says}")
        return value

    return reader


def _one_of(allowed: Collection[str]) -> _Reader:
    def reader(value: object) -> str:
        if value not in allowed:
            close = get_close_matches(str(value), allowed, 1)
            hint = f": did you mean '{close[0]}'?" if close else ""
            raise ValueError(f"{value!r} is not one of {', '.join(allowed)}{hint}")
        return str(value)

    return reader


def _several_of(allowed: Collection[str]) -> _Reader:
    one = _one_of(allowed)
    return lambda value: tuple(one(each) for each in (value if isinstance(value, list) else [value]))


def _number(value: object, type_: Any = int) -> bool:
    return isinstance(value, type_) and not isinstance(value, bool)


def _whole(least: int, most: int = 10**9) -> _Reader:
    return _that(lambda value: _number(value) and least <= value <= most, f"not a whole number from {least} to {most}")


_flag = _that(lambda value: isinstance(value, bool), "neither true nor false")
_share = _that(lambda value: _number(value, int | float) and 0 < value <= 1, "not a share above 0 and up to 1")
_text = _that(lambda value: isinstance(value, str), "not a text")
_list = _that(lambda value: bool(value) and isinstance(value, list), "not a list of ids")
_table = _that(lambda value: isinstance(value, dict), 'not a table such as { Retry-After = "2" }')


def _headers(value: object) -> Mapping[str, str]:
    for name, each in _table(value).items():
        if not (_TOKEN.fullmatch(name) and _text(each).isascii() and each.isprintable()):
            raise ValueError(f"{name}: {each!r} is not a header that HTTP can carry")
    return dict(_table(value))


def _key(default: Any, reader: _Reader) -> Any:
    """Return a key of a rule, as the script's reader finds it: its default, and what reads and checks a value."""
    return field(default=default, metadata={"reader": reader})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule of a fault script. What is None or empty does not restrict, or takes the provider's own.

    Attributes:
        effect: A key of ``EFFECTS``; empty for a rule that only delays.
        method: Of these methods only.
        path: A glob over the path without query, such as ``/v1/threads/*``; ``*`` matches ``/`` too.
        kind: Requests about this kind only.
        ids: Requests with one of these ids in the path only.
        page: Of a listing, the n-th page only, counted from 1.
        probability: Share of the requests matched so far, drawn from the script's seed.
        after: Skip the first so many matching requests.
        first: Of those left, only the first so many.
        every: Of those left, only every n-th.
        latency: Seconds to wait before the answer; a duration such as "20ms" in the script.
        execute: Do what was asked, and only then answer wrongly or not at all.
        status: Of ``error``.
        headers: Added to the answer.
        body: Of ``error``: "json" (the provider's envelope, the default), "html" or "empty";
            of ``sunset`` the same, "empty" by default.
        text: Of ``error``: the body, literally.
        message: Of ``error``: the envelope's message.
        code: Of ``error``: the envelope's code; "insufficient_quota" brings its own message and type.
        type: Of ``error``: the envelope's type.

    """

    effect: str = _key("", _one_of(EFFECTS))
    name: str = _key("", _text)
    method: tuple[str, ...] = _key((), _several_of(METHODS))
    path: str = _key("", _text)
    kind: tuple[str, ...] = _key((), _several_of(KINDS))
    ids: frozenset[str] = _key(frozenset(), lambda value: frozenset(map(_text, _list(value))))
    page: int = _key(0, _whole(1))
    probability: float = _key(1.0, _share)
    after: int = _key(0, _whole(0))
    first: int = _key(0, _whole(1))
    every: int = _key(1, _whole(1))
    latency: float = _key(0.0, durations.parse)
    execute: bool = _key(False, _flag)
    status: int = _key(0, _whole(200, 599))
    headers: Mapping[str, str] = field(default_factory=dict, metadata={"reader": _headers})
    body: str = _key("", _one_of(BODIES))
    text: str | None = _key(None, _text)
    message: str | None = _key(None, _text)
    code: str | None = _key(None, _text)
    type: str | None = _key(None, _text)

    def covers(self, request: ApiRequest, call: ApiCall, page: int) -> bool:
        """Return whether the rule is about this request, its counts and its probability aside."""
        if self.method and request.method not in self.method:
            return False
        if self.kind and call.kind not in self.kind:
            return False
        if self.path and not fnmatchcase(request.path, self.path):
            return False
        if self.ids and self.ids.isdisjoint(call.ids):
            return False
        return not self.page or (call.listing and page == self.page)


class Decision(NamedTuple):
    """What the script does to one request: seconds of delay, and the rule that decides, if one does."""

    latency: float
    rule: Fault | None


class FaultScript:
    """The rules in force, with their counts: one script for all requests of one server."""

    def __init__(self, rules: Sequence[Fault] = (), seed: int = 0) -> None:
        self.rules = tuple(rules)
        self._random = random.Random(seed)
        self._matched = [0] * len(self.rules)
        self._pages: dict[tuple[str, str], int] = {}
        self.hits = [0] * len(self.rules)

    def decide(self, request: ApiRequest, call: ApiCall) -> Decision:
        """Return what happens to a request, and count it."""
        page, latency = self._page(request, call), 0.0
        for at, rule in enumerate(self.rules):
            if not rule.covers(request, call, page) or not self._due(at, rule):
                continue
            self.hits[at] += 1
            latency += rule.latency
            if rule.effect:
                return Decision(latency, rule)
        return Decision(latency, None)

    def note(self, request: ApiRequest, call: ApiCall, page: bytes) -> None:
        """Remember which page of a listing the cursor at a page's end leads to, for rules about a page."""
        if request.method == "GET":
            last = json.loads(page).get("last_id") or ""
            self._pages[request.path, last] = self._page(request, call) + 1

    def _page(self, request: ApiRequest, call: ApiCall) -> int:
        if call.listing and request.method == "POST":
            return _page_of_search(request)
        cursor = request.query_params.get("after") if call.listing else None
        return 1 if not cursor else self._pages.get((request.path, cursor), 1)

    def _due(self, at: int, rule: Fault) -> bool:
        self._matched[at] += 1
        number = self._matched[at] - rule.after
        if number < 1 or number % rule.every or (rule.first and number > rule.first * rule.every):
            return False
        return rule.probability >= 1 or self._random.random() < rule.probability


def _page_of_search(request: ApiRequest) -> int:
    """Return which page an offset is on: a client may begin each with the end of the one before."""
    try:
        asked = json.loads(request.content)
        return 1 + math.ceil(int(asked.get("offset", 0)) / int(asked.get("limit", 1)))
    except (ValueError, AttributeError, TypeError, ZeroDivisionError):
        return 1


def load(path: Path) -> FaultScript:
    """Read a fault script.

    Raises:
        ConfigError: it cannot be read, or a rule in it is wrong; the text names file, rule and key.

    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def parse(text: str, where: str = "fault script") -> FaultScript:
    """Return the script that a TOML text says; ``where`` names it in errors.

    Raises:
        ConfigError: it is no TOML, or a rule in it is wrong.

    """
    try:
        return from_tables(tomllib.loads(text), where)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: {error}") from error


def from_tables(tables: Mapping[str, Any], where: str = "fault script") -> FaultScript:
    """Return the script of parsed tables: ``seed`` and a list ``rule``.

    Raises:
        ConfigError: something in it is wrong.

    """
    for key in tables.keys() - {"seed", "rule"}:
        raise ConfigError(f"{where}: unknown key '{key}': a script has `seed` and [[rule]] tables")
    seed, rules = tables.get("seed", 0), tables.get("rule", [])
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ConfigError(f"{where}: seed: {seed!r} is not a whole number")
    if not isinstance(rules, list) or not all(isinstance(each, dict) for each in rules):
        raise ConfigError(f"{where}: rule: write each rule as a [[rule]] table")
    return FaultScript([_rule(each, f"{where}: rule {at}") for at, each in enumerate(rules, 1)], seed)


def _rule(table: Json, where: str) -> Fault:
    readers: dict[str, _Reader] = {each.name: each.metadata["reader"] for each in fields(Fault)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in readers:
            close = get_close_matches(key, readers, 1)
            hint = f": did you mean '{close[0]}'?" if close else f": a rule has {', '.join(sorted(readers))}"
            raise ConfigError(f"{where}: unknown key '{key}'{hint}")
        try:
            values[key] = readers[key](value)
        except ValueError as error:
            raise ConfigError(f"{where}: {key}: {error}") from None
    rule = Fault(**values)
    if problem := _contradiction(rule):
        raise ConfigError(f"{where}: {problem}")
    return rule


def _contradiction(rule: Fault) -> str | None:
    said = [name for name in ("status", "text", "message", "code", "type") if getattr(rule, name)]
    bodies = [name for name in ("body", "text", "message") if getattr(rule, name)]
    error, does = rule.effect == "error", f"give it an effect ({', '.join(EFFECTS)}) or a latency"
    bodied = error or rule.effect == "sunset"
    checks = (
        (not rule.effect and not rule.latency, f"does nothing: {does}"),
        (error and not rule.status, "status: an error needs one, such as status = 503"),
        (not error and bool(said), f'{", ".join(said)}: only effect = "error" has it'),
        (bool(rule.body) and not bodied, 'body: only effect = "error" and "sunset" have it'),
        (
            rule.execute and rule.effect not in EXECUTABLE,
            f"execute: effect = {rule.effect!r} says by itself what is done",
        ),
        (len(bodies) > 1 and rule.body != "json", f"{', '.join(bodies)}: give one of them"),
    )
    return next((text for wrong, text in checks if wrong), None)
