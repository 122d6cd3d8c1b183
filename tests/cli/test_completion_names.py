"""Completion of names that workers published: within 0.3 s whatever Redis does, and without a word when it fails."""

import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click
import pytest
from click.shell_completion import CompletionItem

from lapse.cli.context import TIMEOUT
from lapse.cli.inspect import completion
from lapse.cli.main import lapse
from support.commandline import CHAT, ENFORCED, HEAD, Desk

SLACK, TRIES = 0.1, 10
"""Seconds in which a thread goes on whose time is over; and how often a busy machine may need longer."""
SOON = 60
ELSEWHERE = """
[providers.staging]
type = "openai"
base_url = "https://staging.example/v1"
api_key_env = "STAGING_KEY"
rate = "unlimited"
[policies.drafts]
kind = "conversation"
provider = "staging"
ttl = "7d"
anchor = "created_at"
"""
MORE = CHAT.replace("[policies.chat]", '[policies.chat]\nprovider = "openai"') + ELSEWHERE


def completed(desk: Desk, *typed: str, shell: str = "bash", **environ: str) -> list[str]:
    """Return what the shell is told, and that it is told nothing else."""
    asked = {"_LAPSE_COMPLETE": f"{shell}_complete", "COMP_WORDS": shlex.join(["lapse", *typed])}
    asked |= {"COMP_CWORD": str(len(typed)) if shell == "bash" else typed[-1]}
    done = desk.run(**asked, **environ)
    assert (0, "") == (done.code, done.err)
    return [line.partition(",")[2] for line in done.lines if line]


def settles(desk: Desk, expected: set[str], *typed: str, **environ: str) -> None:
    """Wait until a busy machine answers in time."""
    deadline = time.monotonic() + SOON
    while (found := set(completed(desk, *typed, **environ))) != expected:
        assert time.monotonic() < deadline, found


def published(desk: Desk) -> None:
    """Let a worker publish what its policy file has, and take the file away."""
    desk.configure(MORE)
    desk.environ["STAGING_KEY"] = "sk-test-staging-0123456789"
    desk.worker()
    desk.config.unlink()


THREADS, DRAFTS = "openai/thread/chat", "staging/conversation/drafts"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (("plan", "--policy", ""), {"chat", "drafts"}),
        (("plan", "--policy", "dr"), {"drafts"}),
        (("ls", "conversations", "--provider", "staging", "--policy", ""), {"drafts"}),
        (("register", "thread", "thread_1", "--policy", "c"), {"chat"}),
        (("status", "--provider", ""), {"openai", "staging"}),
        (("purge", "threads", "--confirm", "st"), {"staging"}),
        (("resume", "--provider", "o"), {"openai"}),
        (("pause", "openai/t"), {"openai/thread", THREADS}),
        (("resume", "staging/conversation/"), {DRAFTS}),
        (("pause", "x"), set()),
    ],
)
def test_what_workers_published_needs_no_policy_file(desk: Desk, typed: tuple[str, ...], expected: set[str]) -> None:
    published(desk)
    settles(desk, expected, *typed)


def test_the_policy_file_is_not_all_that_there_is(desk: Desk) -> None:
    desk.configure(MORE)
    desk.environ["STAGING_KEY"] = "sk-test-staging-0123456789"
    desk.worker()
    desk.configure(CHAT.replace("policies.chat", "policies.new"))
    settles(desk, {"chat", "drafts", "new"}, "plan", "--policy", "")


def test_a_plan_that_waits_for_an_approval(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace('[limits]\nmax_newly_due = "unlimited"\n', ""))
    desk.seed(300)
    desk.worker()
    (halt,) = desk.halts().values()
    settles(desk, {halt["plan"]}, "approve", "")
    settles(desk, set(), "approve", "no-such")
    told = desk.run(_LAPSE_COMPLETE="fish_complete", COMP_WORDS="lapse approve ", COMP_CWORD="")
    assert f"plain,{halt['plan']}\topenai/thread/chat: cutoff_jumped" in told.lines


def test_a_name_that_no_shell_takes_for_one_word_is_left_out(desk: Desk) -> None:
    desk.config.unlink()
    names = ["openai/thread/chat", "openai/thread/$(reboot)", "openai/thread/a\nplain,b", "openai/thread/\x1b[2J"]
    desk.raw.hset("lapse:published", "policies", json.dumps(names))
    settles(desk, {"chat"}, "plan", "--policy", "")


@pytest.mark.parametrize("stored", ["no json", "17", '{"a": 1}', "[17, null]", "[[1]]"])
def test_what_is_published_badly_completes_nothing(desk: Desk, stored: str) -> None:
    desk.raw.hset("lapse:published", mapping=dict.fromkeys(("policies", "providers", "slots"), stored))
    for typed in (("plan", "--policy", ""), ("approve", ""), ("status", "--provider", "")):
        assert set(completed(desk, *typed)) <= {"chat", "openai"}


@contextmanager
def nobody() -> Iterator[str]:
    """Give a port where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield f"127.0.0.1:{port}"


@contextmanager
def unroutable() -> Iterator[str]:
    """Give an address that no host has: RFC 5737."""
    yield "192.0.2.1:6379"


@contextmanager
def blackhole() -> Iterator[str]:
    """Give a port whose connections nobody takes: SYNs are dropped there."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # the queue is full from there on
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with socket.socket() as probe:
            probe.settimeout(0.5)
            with pytest.raises(TimeoutError):
                probe.connect(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """Give a server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def dripping() -> Iterator[str]:
    """Give a server whose answer comes a byte at a time, and has no end: no timeout of a read ever runs out."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            while not over.wait(0.05):
                try:
                    connection.sendall(b"+")
                except OSError:
                    return

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


@contextmanager
def garbage() -> Iterator[str]:
    """Give a server of another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def in_time(find: Callable[[click.Context, str], list[CompletionItem]]) -> list[str]:
    """Return what is found, and that it took no longer than is said: a busy machine may be late, but not always."""
    took = []
    for _ in range(TRIES):
        began = time.monotonic()
        found = find(click.Context(lapse), "")
        took.append(time.monotonic() - began)
        if took[-1] < completion.PATIENCE + SLACK:
            return [item.value for item in found]
    raise AssertionError(took)


TROUBLES = [nobody, unroutable, blackhole, silent, dripping, garbage]
SCHEMES = ["redis://{}/0", "redis+cluster://{}", "redis+sentinel://{}/mymaster/0"]


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_waits_for_no_redis_longer_than_said(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, trouble: object, scheme: str
) -> None:
    """Measured in this process: how long Python takes to start is nothing of Redis."""
    monkeypatch.chdir(desk.directory)
    with trouble() as address:  # type: ignore[operator]
        monkeypatch.setenv("REDIS_URL", scheme.format(address))
        for find, expected in ((completion.policies, ["chat"]), (completion.plans, [])):
            assert expected == in_time(find)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_shell_gets_the_files_names_and_no_word_about_it(desk: Desk, trouble: object) -> None:
    """The whole script: what it left behind does not keep it from ending, as the time-outs of other commands would."""
    took = []
    with trouble() as address:  # type: ignore[operator]
        for _ in range(TRIES):
            began = time.monotonic()
            assert ["chat"] == completed(desk, "plan", "--policy", "", REDIS_URL=f"redis://{address}/0")
            took.append(time.monotonic() - began)
            if took[-1] < TIMEOUT / 2:
                return
    raise AssertionError(took)


def test_a_name_that_is_never_resolved_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends getaddrinfo before its own time."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked, **_more: over.wait())
    monkeypatch.setenv("REDIS_URL", "redis://redis.example/0")
    monkeypatch.chdir(desk.directory)
    assert ["chat"] == in_time(completion.policies)
    over.set()


@pytest.mark.parametrize("text", ["", "[", "[policies.chat]\nttl = 7\n", "\x00"])
def test_a_policy_file_that_is_wrong_completes_nothing(desk: Desk, text: str) -> None:
    desk.config.write_text(text)
    assert [] == completed(desk, "plan", "--policy", "", REDIS_URL="")


def test_neither_file_nor_redis_completes_nothing(desk: Desk) -> None:
    desk.config.unlink()
    assert [] == completed(desk, "status", "--provider", "", REDIS_URL="")
