"""What ``lapse metrics --page`` serves: what status shows, never more, never what a stored text would make of it."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import pytest
import redis
from click.testing import CliRunner

from lapse import Registry
from lapse.cli.inspect.page.meanings import MEANINGS
from lapse.cli.inspect.page.reading import LASTS, RegistryReader
from lapse.cli.operate.remedies import REMEDIES
from lapse.cli.serve import metrics
from lapse.guards.integrity.continuity import ContinuityCheck
from lapse.ledger.reasons import HaltReason
from lapse.metrics import server
from lapse.metrics.erasures import ErasureReader
from lapse.metrics.server import ExporterParts
from lapse.policy.reload import ConfigFile
from lapse.registry.pools.credentials.endpoint import endpoint_of
from lapse.sandbox.redis_server import EmbeddedRedis
from support.monitored import monitored
from tools.page_states import EVIL, HEAD, NEVER, POLICIES, STATES, Furnished, exporter, hostile

LAPSE = Path(sys.executable).with_name("lapse")
RUNBOOK = Path(__file__).parents[2] / "deploy" / "runbooks" / "LapseHalted.md"
OURS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "div", "h1", "h2", "h3", "span", "p", "button",
    "a", "section", "ul", "li", "code", "table", "caption", "thead", "tbody", "tr", "th", "td", "time", "strong", "dl",
    "dt", "dd", "script",
}  # fmt: skip


class Shown(NamedTuple):
    """One answer of the exporter."""

    status: int
    headers: dict[str, str]
    text: str


class Markup(HTMLParser):
    """The tags of a page, what stands in its script and its stylesheet, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.inside: dict[str, str] = {}
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.handlers += [name for name, _value in attrs if name.startswith("on") or name in {"src", "style"}]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.inside[self.cdata_elem] = self.inside.get(self.cdata_elem, "") + data


def asked(url: str, path: str = "", method: str = "GET", body: bytes | None = None) -> Shown:
    where = urljoin(url, path)
    host, _, rest = where.removeprefix("http://").partition("/")
    connection = HTTPConnection(host, timeout=20)
    try:
        connection.request(method, f"/{rest}", body)
        reply = connection.getresponse()
        return Shown(reply.status, dict(reply.getheaders()), reply.read().decode("utf-8"))
    finally:
        connection.close()


@contextmanager
def served(directory: Path, state: str = "healthy") -> Iterator[tuple[str, Furnished]]:
    with ExitStack() as stack:
        redis_server = stack.enter_context(EmbeddedRedis())
        made = Furnished(directory, redis_server)
        stack.callback(made.raw.close)
        STATES[state](made)
        yield stack.enter_context(exporter(directory, made.path, redis_server.url)), made


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Furnished]]:
    with served(tmp_path_factory.mktemp("halted"), "halted") as found:
        yield found


def words(text: str) -> str:
    """Return a page as it is read: without its tags, its script and its stylesheet."""
    bare = re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare).replace("&quot;", '"').replace("&amp;", "&"))


def test_it_says_what_is_halted_and_what_to_type(halted: tuple[str, Furnished]) -> None:
    shown = asked(halted[0])
    said = words(shown.text)
    assert 200 == shown.status
    assert "3 things wait for somebody." in said
    assert "openai/file/uploads is halted: cutoff_jumped" in said
    assert "lapse plan files --policy uploads" in said
    assert "lapse approve 0f3c9d1e77aa --confirm=PROVIDER" in said
    assert 'lapse resume openai/thread --reason "..." --confirm=PROVIDER' in said
    assert "foundry: breaker open (auth): refuses the credentials" in said
    assert "lapse resume foundry" in said
    assert "openai/thread/left-over is unmanaged" in said


def test_its_numbers_are_those_of_status(halted: tuple[str, Furnished]) -> None:
    url, made = halted
    told = subprocess.run(
        [LAPSE, "status", "--json", "--config", str(made.path)],
        env={"REDIS_URL": made.server.url, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = [re.sub(r"<[^>]+>", "|", row) for row in asked(url).text.split("<tr ")[2:]]
    for one in json.loads(told.stdout)["partitions"]:
        (row,) = [
            row for row in rows if f"|{one['policy']}|" in row and f"| {one['kind']} of {one['provider']}|" in row
        ]
        cells = [cell for cell in row.split("|") if cell.strip()]
        assert f"{one['registered']:,}" in cells
        assert one["state"] in cells
        assert not one["managed"] or f"{one['due']:,}" in cells


def test_one_policy_has_a_page(halted: tuple[str, Furnished]) -> None:
    url, _made = halted
    said = words(asked(url, "policy/uploads").text)
    assert "1 thing waits for somebody." in said  # the other halt is another policy's
    assert "no_witness" not in said
    assert "Deletes files 7d after creation, never those that a keep rule matches. The file says enforce." in said
    assert "contract" not in said
    assert re.search(r"Due 1,284 ", said)
    missing = asked(url, "policy/" + quote(EVIL, safe="", errors="replace"))
    assert 404 == missing.status
    assert "All is well" not in missing.text
    assert 1 == Markup(missing.text).tags["script"]


def test_every_link_leads_somewhere(halted: tuple[str, Furnished]) -> None:
    url, _made = halted
    for page in (url, f"{url}policy/chat"):
        links = Markup(asked(page).text).links
        assert links
        assert {200} == {asked(urljoin(page, link)).status for link in links}


@pytest.mark.parametrize("path", ["", "policy/chat", "policy/nope", "metrics", "livez", "nowhere"])
def test_headers(halted: tuple[str, Furnished], path: str) -> None:
    shown, bare = asked(halted[0], path), asked(halted[0], path, "HEAD")
    assert ("nosniff", "no-store") == (shown.headers["X-Content-Type-Options"], shown.headers["Cache-Control"])
    assert (shown.status, "") == (bare.status, bare.text)
    assert shown.headers.keys() == bare.headers.keys()
    if shown.headers["Content-Type"].startswith("text/html"):
        found = Markup(shown.text)
        policy = dict(part.split(" ", 1) for part in shown.headers["Content-Security-Policy"].split("; "))
        hashes = {
            name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for name, text in found.inside.items()
        }
        assert policy == {
            "default-src": "'none'",
            "style-src": hashes["style"],
            "script-src": hashes["script"],
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        assert [] == found.handlers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_get_and_head(halted: tuple[str, Furnished], method: str) -> None:
    shown = asked(halted[0], "", method, b"reason=x")
    assert (405, "GET, HEAD") == (shown.status, shown.headers["Allow"])
    assert "nosniff" == shown.headers["X-Content-Type-Options"]


def test_what_nobody_asked_for_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is there if ``--page`` says so: without it nobody makes one, and no path leads to it."""
    given: list[Any] = []
    monkeypatch.setattr(server, "serve", lambda *arguments: given.append(arguments[-1]))
    monkeypatch.setattr("lapse.cli.serve.configure", lambda: None)
    assert 0 == CliRunner().invoke(metrics, []).exit_code
    assert 0 == CliRunner().invoke(metrics, ["--page"]).exit_code
    assert [True, False] == [one is None for one in given]


def test_no_stored_text_becomes_markup(tmp_path: Path) -> None:
    with served(tmp_path) as (url, made):
        hostile(made)
        first = asked(url)
        policy = next(link for link in Markup(first.text).links if "alert" in link)
        pages = [first, *(asked(url, path) for path in ("policy/chat", "policy/uploads", policy))]
        logged = (tmp_path / "exporter.log").read_text()
    for shown in pages:
        found = Markup(shown.text)
        assert 200 == shown.status, logged
        assert set(found.tags) <= OURS
        assert 1 == found.tags["script"]
        assert [] == found.handlers
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown.text)
        assert NEVER not in shown.text
    for place in ("&lt;script&gt;alert(1)&lt;/script&gt;\\u001b[31m\\ud800", "\\xed\\xa0\\x80"):
        assert place in first.text
    commands = re.findall(r'<code class="command">(.*?)</code>', "".join(shown.text for shown in pages))
    assert commands
    assert all(re.fullmatch(r'[\w.:/@ "=+,-]+', re.sub("<[^>]+>", "", one)) for one in commands)


def test_a_name_that_is_no_text_hides_no_metrics(tmp_path: Path) -> None:
    """An application's user may write to this set."""
    with served(tmp_path) as (url, made), redis.Redis.from_url(made.server.url) as raw:
        raw.sadd("lapse:slots", b"\xff\xfe/thread", b"a/b/c", b"nothing")
        shown = asked(url, "metrics")
    assert 200 == shown.status
    assert 'lapse_registry_up{deployment="production"} 1.0' in shown.text


def test_neither_ids_nor_subjects_nor_labels_nor_reasons_are_shown(tmp_path: Path) -> None:
    with served(tmp_path, "halted") as (url, made):
        with Registry(made.server.url, provider="openai", timeout=5) as registry:
            registry.register("thread", f"thread_{NEVER}", "chat", subject=f"s-{NEVER}", labels={"k": NEVER})
            registry.hold("thread", f"thread_{NEVER}", reason=NEVER, actor=NEVER)
            registry.forget("thread", f"thread_{NEVER}2")
        text = "".join(asked(url, path).text for path in ("", "policy/chat", "policy/uploads", "policy/trial"))
    assert "no_witness" in text
    assert not re.search(rf"{NEVER}|secret|thread_|\bann\b|the move", text)


def test_an_invalid_file_and_a_registry_that_is_away_are_said(tmp_path: Path) -> None:
    with served(tmp_path) as (url, made):
        made.path.write_text("[policies.chat]\n")
        assert "The policy file on disk is not in use" in words(asked(url).text)
        made.server.stop()
        deadline = time.monotonic() + 30
        while "The registry does not answer" not in words((shown := asked(url)).text):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        said = words(shown.text)
        assert 200 == shown.status
        assert re.search(r"It last answered \d+s ago", said)
        assert "lapse doctor" in said
        assert 200 == asked(url, "policy/chat").status
        assert 404 == asked(url, "policy/nope").status


@pytest.fixture
def parts(tmp_path: Path, redis_url: str) -> ExporterParts:
    path = tmp_path / "retention.toml"
    path.write_text(HEAD + POLICIES)
    return ExporterParts(ConfigFile(path, {}), endpoint_of(redis_url), ContinuityCheck(), ErasureReader())


def test_the_registry_is_read_once_in_five_seconds_however_many_look(parts: ExporterParts, redis_url: str) -> None:
    clock = [100.0]
    reader = RegistryReader(parts, lambda: clock[0])
    with monitored(redis_url) as said:
        for moment in (100.0, 100.0 + LASTS - 0.001, 100.0 + LASTS):
            clock[0] = moment
            viewers = [threading.Thread(target=reader.latest) for _ in range(20)]
            for viewer in viewers:
                viewer.start()
            for viewer in viewers:
                viewer.join()
    looks = [one for one in said if one.parts == [b"HKEYS", b"lapse:control"]]
    assert 2 == len(looks)


def test_a_registry_that_is_away_is_not_asked_oftener(parts: ExporterParts) -> None:
    clock = [100.0]
    away = replace(parts, endpoint=endpoint_of("redis://127.0.0.1:9/0"))
    reader = RegistryReader(away, lambda: clock[0])
    first = reader.latest()
    assert (None, None) == (first.registry, first.answered)
    clock[0] += LASTS - 0.001
    assert reader.latest() is first
    clock[0] += 0.001
    assert reader.latest() is not first


def test_every_halt_has_a_meaning_which_is_the_runbooks() -> None:
    told = dict(
        re.findall(r"^\| `(\w+)` \| (.*?) \| .*? \|$", RUNBOOK.read_text().partition("## Mitigation")[0], re.MULTILINE)
    )
    assert told == MEANINGS
    assert {*HaltReason, *REMEDIES} <= set(MEANINGS)


def test_the_script_has_at_most_thirty_lines() -> None:
    assert 30 >= len(files("lapse.cli.inspect.page").joinpath("refresh.js").read_text().splitlines())
