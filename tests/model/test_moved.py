"""The stories of the model, and between any two steps the whole registry moves through a file: it goes on as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Chunk, Header, checked, chunk_of, written
from lapse.cli.transfer.load import Load
from lapse.ledger.halts import REWIND
from lapse.registry import keys
from model.stored import POLICIES, SLOT
from model.test_model import STORIES, Registry
from support.held import held

THREADS = ("openai", "thread")


class Moved(Registry):
    """Moves the registry: straight into the namespace that it had, or through another one."""

    exact: Any

    @rule(through=st.sampled_from([("lapse",), ("other", "lapse")]))
    def move(self, through: tuple[str, ...]) -> None:
        namespace = "lapse"
        for target in through:
            dump, before = Dump(self.exact, namespace, {THREADS: POLICIES}), held(self.exact, namespace)
            header = Header("0123456789abcdef", namespace, None, dump.slots, self.model.now, "elsewhere")
            read, chunks = through_a_file(header, dump)
            self.clear()
            load = Load(self.exact, target, read)
            after = load.begin()
            assert list(range(2, len(chunks) + 2)) == list(load.apply(enumerate(chunks, 2), after))
            load.finish()
            assert before == held(self.exact, target)
            namespace = target
        self.end_leases(load)

    def clear(self) -> None:
        """Remove everything but the clock."""
        names = [name for space in ("lapse", "other") for name in self.exact.scan_iter(f"{space}:*")]
        for name in names:
            self.exact.delete(name)

    def end_leases(self, load: Load) -> None:
        """Let what was leased wait, here and in the model; and tokens go on beyond those of before."""
        fence = int(self.exact.hget(SLOT + keys.MARKS, "fence") or 0)
        assert fence >= self.model.fence + REWIND * bool(self.model.fence)
        self.model.fence = fence
        for id_, entry in list(self.model.entries.items()):
            if entry.place == "claimed":
                self.model.lapse(id_, entry)
        while load.claimed():
            call = self.real.commands.on_slot("ledger/lua/housekeeping/housekeep", *THREADS, 0, 500, "", parse=int)
            self.real.do(self.real.carry([call]))
        self.real.do(self.real.ledger.release_edges(*THREADS))
        self.model.release()


def through_a_file(header: Header, dump: Dump) -> tuple[Header, list[Chunk]]:
    """Return what a reader makes of what a writer made."""
    lines = [line for line, _counts in written(header, dump.chunks())]
    read, counts = checked(lines)
    assert len(lines) == counts.lines + 1
    return read, [chunk_of(line, number) for number, line in enumerate(lines[1:-1], 2)]


@pytest.fixture
def machine(redis_url: str) -> Iterator[type[Moved]]:
    with (
        redis.Redis.from_url(redis_url) as client,
        redis.Redis.from_url(redis_url, decode_responses=True, encoding_errors="surrogateescape") as exact,
    ):
        yield type("MovedMachine", (Moved,), {"client": client, "exact": exact})


@pytest.mark.timeout(3600)
def test_any_story_goes_on_behind_a_move_as_plain_python_has_it(machine: type[Moved]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=STORIES or 12,
            stateful_step_count=25,
            derandomize=not STORIES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
