"""The mover: no line is lost, and only what the sink confirmed is trimmed."""

import array
import asyncio
import errno
import fcntl
import itertools
import json
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.audit import shipper
from lapse.audit.chain import Seal
from lapse.audit.shipper import FileSink, Mover, StdoutSink
from lapse.audit.verify import Verification
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.sandbox.redis_server import die_with_parent

SLOT = keys.slot("lapse", "openai", "thread")
STREAM = SLOT + keys.AUDIT
MOVER = SLOT + "mover"
CHAIN = SLOT + keys.CHAIN
KEY = Seal(b"k" * 32)


@pytest.fixture
async def carrier(redis_url: str) -> AsyncIterator[Carrier]:
    made = Carrier(redis_url, 5)
    yield made
    await made.aclose()


def entries(raw: redis.Redis) -> list[tuple[str, str]]:
    found: Any = raw.xrange(STREAM)
    return [(entry, fields["e"]) for entry, fields in found]


def write(raw: redis.Redis, count: int, start: int = 0) -> None:
    pipe = raw.pipeline(transaction=False)
    for number in range(start, start + count):
        pipe.xadd(STREAM, {"e": json.dumps({"at": 1, "event": "settled", "id": f"thread_{number}"})})
    pipe.execute()


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(path: Path) -> list[str]:
    return [str(line["id"]) for line in read(path)]


class Failing:
    """A sink that takes a number of batches and then fails as a full disk does."""

    def __init__(self, path: Path, batches: int) -> None:
        self._file = FileSink(path)
        self._left = batches

    def write(self, lines: bytes) -> None:
        if not self._left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._left -= 1
        self._file.write(lines)

    def written(self, chain: str) -> dict[int, bytes]:
        return self._file.written(chain)


async def test_lines_arrive_in_order_with_their_stream_id_and_leave_the_stream(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    write(raw, 2500)
    sequence = [entry for entry, _ in entries(raw)]
    mover = Mover(carrier, "lapse", FileSink(tmp_path / "audit.jsonl"))
    assert await mover.pending("openai", "thread") == 2500

    moved = await mover.move("openai", "thread", at_most=10_000)

    assert moved == 2500
    lines = read(tmp_path / "audit.jsonl")
    assert [line["seq"] for line in lines] == sequence
    assert [line["id"] for line in lines] == [f"thread_{number}" for number in range(2500)]
    assert await mover.pending("openai", "thread") == 0


async def test_what_the_sink_did_not_confirm_stays(carrier: Carrier, raw: redis.Redis, tmp_path: Path) -> None:
    write(raw, 2500)
    path = tmp_path / "audit.jsonl"

    with pytest.raises(OSError, match="No space left"):
        await Mover(carrier, "lapse", Failing(path, 1)).move("openai", "thread", at_most=10_000)

    assert raw.xlen(STREAM) == 2500 - shipper.BATCH
    assert await Mover(carrier, "lapse", FileSink(path)).move("openai", "thread", at_most=10_000) == 1500
    assert ids(path) == [f"thread_{number}" for number in range(2500)]


def test_what_is_no_file_is_not_read_back(tmp_path: Path) -> None:
    """A pipe would be waited for, and what stands in it is its reader's."""
    os.mkfifo(tmp_path / "pipe")

    assert {} == FileSink(tmp_path / "pipe").written("openai/thread/1/1-0/sha256")
    assert {} == FileSink(tmp_path / "none").written("openai/thread/1/1-0/sha256")


class Dying(FileSink):
    """A sink that writes a batch, after which its process is gone."""

    def write(self, lines: bytes) -> None:
        super().write(lines)
        raise MemoryError


async def test_a_crash_between_write_and_trim_repeats_lines_to_the_last_byte(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    for start in (0, 10):
        write(raw, 10, start)
        with pytest.raises(MemoryError):
            await Mover(carrier, "lapse", Dying(path), KEY).move("openai", "thread", at_most=100)
        raw.delete(MOVER)
        write(raw, 3, start + 10)
        await Mover(carrier, "lapse", FileSink(path), KEY).move("openai", "thread", at_most=100)

    lines = path.read_bytes().splitlines()
    assert lines[:10] == lines[10:20]
    assert lines[23:33] == lines[33:43]
    found = Verification([KEY]).verify([path])
    assert ([], 26, 20) == (found.wrong, found.chains[0].lines, found.chains[0].repeated)
    assert str(found.chains[0].tail) == raw.get(CHAIN)


async def test_two_movers_that_race_on_two_files_write_one_chain(
    carrier: Carrier, raw: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    """One takes longer than its lease; meanwhile another moves the same lines, and more."""
    write(raw, 5)
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"

    class Slow(FileSink):
        def write(self, lines: bytes) -> None:
            raw.delete(MOVER)
            write(raw, 3, 5)
            asyncio.run(elsewhere())
            super().write(lines)

    async def elsewhere() -> None:
        other = Carrier(redis_url, 5)
        assert 8 == await Mover(other, "lapse", FileSink(two), KEY).move("openai", "thread", at_most=100)
        await other.aclose()

    assert await Mover(carrier, "lapse", Slow(one), KEY).move("openai", "thread", at_most=100) == 0
    write(raw, 4, 8)
    assert await Mover(carrier, "lapse", FileSink(one), KEY).move("openai", "thread", at_most=100) == 4

    assert [f"thread_{number}" for number in (*range(5), *range(8, 12))] == ids(one)
    for files in ([one, two], [two, one]):
        found = Verification([KEY]).verify(files)
        assert ([], 12, 5) == (found.wrong, found.chains[0].lines, found.chains[0].repeated)


async def test_a_chain_belongs_to_its_registrys_epoch_and_key(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    path, other = tmp_path / "audit.jsonl", Seal(b"o" * 32)
    raw.hset("lapse:epoch", "id", "aaaaaaaaaaaa")
    for seal in (KEY, KEY, other):
        write(raw, 4)
        await Mover(carrier, "lapse", FileSink(path), seal).move("openai", "thread", at_most=100)
    raw.flushall()
    raw.hset("lapse:epoch", "id", "bbbbbbbbbbbb")
    write(raw, 4)
    await Mover(carrier, "lapse", FileSink(path), other).move("openai", "thread", at_most=100)

    found = Verification([KEY, other]).verify([path])

    assert [] == found.wrong
    first, second, third = found.chains
    assert (8, first.tail, None) == (first.last, second.after, third.after)
    assert ["aaaaaaaaaaaa", "aaaaaaaaaaaa", "bbbbbbbbbbbb"] == [one.name.split("/")[2] for one in found.chains]


async def test_what_is_no_record_stays_one_line(carrier: Carrier, raw: redis.Redis, tmp_path: Path) -> None:
    """An application's Redis user may add to the stream whatever it likes."""
    path = tmp_path / "audit.jsonl"
    texts: list[str | bytes] = ["", "x", '{"a":1}\n{"b":2}', '{"a":1', "[1]"]
    inner: list[str | bytes] = [
        '{"id":"a","id":"b"}',
        '{"seq":"1-0"}',
        '{"chain":"x","n":1}',
        '{"mac":"x"}',
        '{"x":NaN}',
        '{"a":1}{"b":2}',
        b'{"a":"\xff"}',
        '{"a":"\\ud800"}',
        '{"a":1,}',
        "{}",
        '{"a":"b\rc"}',
    ]
    for text in texts + inner:
        raw.xadd(STREAM, {"e": text})
    write(raw, 1)

    assert await Mover(carrier, "lapse", FileSink(path), KEY).move("openai", "thread", at_most=100) == 17

    garbled = [line.get("garbled") for line in read(path)]
    assert [*texts, *(str(text)[1:-1] for text in inner[:6])] == garbled[:11]
    assert all(text is not None for text in garbled[11:-1])
    assert garbled[-1] is None
    assert [] == Verification([KEY]).verify([path]).wrong


async def test_a_call_is_bounded_and_stops_when_told(carrier: Carrier, raw: redis.Redis, tmp_path: Path) -> None:
    write(raw, 3000)
    mover = Mover(carrier, "lapse", FileSink(tmp_path / "audit.jsonl"))

    assert await mover.move("openai", "thread", at_most=1200) == 1200
    assert await mover.move("openai", "thread", at_most=1200, halt=lambda: True) == 0
    assert raw.xlen(STREAM) == 1800


async def test_many_movers_and_writers_lose_and_repeat_nothing(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"

    async def work() -> None:
        mover = Mover(carrier, "lapse", FileSink(path))
        while "written" not in done or await mover.pending("openai", "thread"):
            await mover.move("openai", "thread", at_most=700)

    async def feed() -> None:
        for start in range(0, 6000, 500):
            await asyncio.to_thread(write, raw, 500, start)
        done.add("written")

    done: set[str] = set()
    await asyncio.gather(feed(), *(work() for _ in range(4)))

    assert ids(path) == [f"thread_{number}" for number in range(6000)]


async def test_another_movers_lock_is_respected_and_ends_by_itself(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    write(raw, 5)
    mover = Mover(carrier, "lapse", FileSink(tmp_path / "audit.jsonl"))
    raw.set(MOVER, "someone else", px=60_000)

    assert await mover.move("openai", "thread", at_most=100) == 0
    assert raw.get(MOVER) == "someone else"

    raw.delete(MOVER)
    assert await mover.move("openai", "thread", at_most=100) == 5
    assert raw.exists(MOVER) == 0


async def test_a_sink_slower_than_the_lease_ends_without_an_error_and_without_a_second_lock(
    carrier: Carrier, raw: redis.Redis, tmp_path: Path
) -> None:
    write(raw, 10)

    class Slow(FileSink):
        def write(self, lines: bytes) -> None:
            super().write(lines)
            raw.set(MOVER, "the next mover", px=60_000)

    assert await Mover(carrier, "lapse", Slow(tmp_path / "a.jsonl")).move("openai", "thread", at_most=100) == 10
    assert raw.get(MOVER) == "the next mover"


def test_a_torn_last_line_is_closed_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"seq":"1-0","id":"x"}\n{"seq":"2-')

    FileSink(path).write(b'{"seq":"2-0","id":"y"}\n')

    assert path.read_bytes().splitlines()[1:] == [b'{"seq":"2-', b'{"seq":"2-0","id":"y"}']


def test_a_write_that_fails_half_way_leaves_no_half_behind(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    FileSink(path).write(b"{}\n")
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def grow() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        try:
            FileSink(path).write(b'{"a":1}\n' * 1000)
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 2)
        os._exit(3)

    child = multiprocessing.get_context("fork").Process(target=grow)
    child.start()
    child.join()

    assert child.exitcode == 0
    assert path.read_bytes() == b"{}\n"


def test_a_file_that_was_renamed_away_is_made_again_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    FileSink(path).write(b"{}\n")
    path.rename(tmp_path / "audit.jsonl.1")
    FileSink(path).write(b"[]\n")

    assert path.read_bytes() == b"[]\n"
    assert path.stat().st_mode & 0o777 == 0o600


WRITERS = """
import os, sys
from lapse.audit.shipper import StdoutSink
for writer in range(int(sys.argv[1])):
    if not os.fork():
        for batch in range(10):
            line = b'{"writer":%d,"batch":%d,"is":"%b"}\\n' % (writer, batch, b"x" * 900)
            StdoutSink().write(line * 100)
        os._exit(0)
for writer in range(int(sys.argv[1])):
    os.wait()
"""


@pytest.mark.parametrize("programs", [1, 3])
@pytest.mark.parametrize("waits", [True, False])
def test_stdout_gets_whole_lines_from_any_number_of_processes(programs: int, *, waits: bool) -> None:
    """Each of several programs forks four that write at once into one pipe, of which 4 KiB is all that is one piece."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, waits)
    running = [
        subprocess.Popen(die_with_parent(sys.executable, "-c", WRITERS, "4"), stdout=theirs) for _ in range(programs)
    ]
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [0] * programs == [program.wait() for program in running]

    assert programs * 4000 == len(lines)
    whole = [json.loads(line) for line in lines]
    assert all(len(line["is"]) == 900 for line in whole)
    batches = [(line["writer"], line["batch"]) for line in whole]
    runs = sum(1 for one, other in itertools.pairwise(batches) if one != other) + 1
    assert runs <= programs * 40


KILLED = """
import os, signal
from lapse.audit.shipper import StdoutSink
child = os.fork()
if not child:
    StdoutSink().write(b'{"seq":"1-0","is":"%b"}\\n' % (b"x" * 100_000))
os.read(0, 1)
os.kill(child, signal.SIGKILL)
os.wait()
os.write(2, b".")
StdoutSink().write(b'{"seq":"2-0"}\\n')
"""


def test_a_line_that_a_killed_process_left_half_written_spoils_no_other(wait_until: Callable[..., None]) -> None:
    with subprocess.Popen(
        die_with_parent(sys.executable, "-c", KILLED),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        waiting, full = program.stdout.fileno(), fcntl.fcntl(program.stdout, fcntl.F_GETPIPE_SZ)

        def filled() -> bool:
            size = array.array("i", [0])
            fcntl.ioctl(waiting, termios.FIONREAD, size)
            return size[0] == full

        wait_until(filled, what="a pipe that takes no more")
        program.stdin.write(b".")
        program.stdin.flush()
        assert b"." == program.stderr.read(1)  # it is gone
        torn, second = program.stdout.read().splitlines()

    assert torn.startswith(b'{"seq":"1-0"')
    assert b'{"seq":"2-0"}' == second


def test_a_descriptor_that_takes_no_locks_is_written_to_all_the_same() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = "from lapse.audit.shipper import StdoutSink; StdoutSink().write(b'{}\\n')"
        subprocess.run([sys.executable, "-c", code], stdout=theirs.fileno(), check=True)
        theirs.close()
        assert b"{}\n" == ours.recv(100)


def test_sinks_are_named_as_in_the_config() -> None:
    assert isinstance(shipper.open_sink(None), StdoutSink)
    assert shipper.open_sink(Path("/var/log/audit.jsonl")) == FileSink(Path("/var/log/audit.jsonl"))


async def test_thousands_of_lines_a_second(carrier: Carrier, raw: redis.Redis, tmp_path: Path) -> None:
    write(raw, 20_000)
    started = time.process_time()

    await Mover(carrier, "lapse", FileSink(tmp_path / "audit.jsonl")).move("openai", "thread", at_most=20_000)

    assert time.process_time() - started < 20_000 / 20_000
