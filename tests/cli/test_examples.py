"""Every command has a help with examples, and every example does what it says."""

import asyncio
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import click
import pytest

from lapse.cli.main import SECTIONS, lapse
from lapse.cli.receipts import sealing, signing
from lapse.cli.receipts.keys import new_seed, public_pem
from lapse.ledger.erasure.request import State
from lapse.ledger.halts import Halts
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition
from lapse.sandbox.redis_server import free_port
from support.commandline import Desk
from support.erased import DONE, REQUEST, receipt

OPEN = "7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11"
POLICIES = """
[policies.chat]
kind = ["conversation", "thread"]
ttl = "30d"
anchor = "created_at"
mode = "enforce"
[policies.idle-assistants]
kind = "assistant"
orphan = { min_age = "1s", seen = 3, uses = "none" }
mode = "enforce"
"""
SERVING = {"metrics", "sandbox", "demo"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def examples(command: click.Command) -> list[str]:
    _before, _title, after = (command.help or "").partition("Examples:\n")
    return [line.strip() for line in after.splitlines() if line.startswith("  lapse ")]


ALL = dict(commands(lapse))
EXAMPLES = sorted({example for command in ALL.values() for example in examples(command)})


def test_every_command_has_examples_of_its_own() -> None:
    for path, command in ALL.items():
        assert examples(command), path
        assert all(example.startswith(f"lapse {path[0]}") for example in examples(command)), path


def test_every_command_says_in_one_line_what_it_does() -> None:
    for name, (_module, short) in ((n, c) for section in SECTIONS.values() for n, c in section.items()):
        assert short == ALL[(name,)].short_help
        assert short.endswith("."), name


def serves(example: str) -> bool:
    """Say whether an example goes on until it is interrupted."""
    return example.split()[1] in SERVING or "--watch" in example


def furnish(desk: Desk) -> None:
    """Put in place what the examples name."""
    desk.configure(POLICIES)
    desk.worker()
    month = time.time() - 40 * 86_400
    desk.registry.register("conversation", "conv_68a1", "chat")
    desk.registry.register("conversation", "conv_77c0", "chat", created_at=month)
    desk.registry.register("thread", "thread_abc", "chat")
    desk.sandbox.seed("thread", ids=["thread_due"])
    desk.registry.register("thread", "thread_due", "chat", created_at=month, last_active_at=month)
    desk.raw.hset("lapse:erasures", REQUEST, DONE.stored())
    new_seed(desk.directory / "receipts.key")
    desk.environ["LAPSE_RECEIPTS__KEY_FILE"] = str(desk.directory / "receipts.key")
    (desk.directory / "audit.jsonl").touch()
    (desk.directory / "threads.csv").write_text("id,created_at\nthread_2,2026-03-01\n")
    (desk.directory / "ids.jsonl").write_text('{"kind": "thread", "id": "thread_3", "policy": "chat"}\n')
    (desk.directory / "lost.jsonl").write_text('{"kind": "thread", "id": "thread_1", "policy": "chat"}\n')


def halt(desk: Desk, plan: str) -> None:
    async def set_it() -> None:
        carrier = Carrier(desk.environ["REDIS_URL"], 5)
        await Halts(carrier, "lapse").halt(Partition("openai", "thread", "chat"), "cutoff_jumped", "test", plan=plan)
        await carrier.run([("HSET", "lapse:{openai:thread}:chat:rules", "newly_asked", f"{plan} 9 counted")])
        await carrier.aclose()

    asyncio.run(set_it())


def quarantine(desk: Desk) -> None:
    desk.sandbox.seed("thread", ids=["thread_abc"])
    desk.registry.expire("thread", "thread_abc")
    desk.sandbox.faults([{"method": "DELETE", "effect": "error", "status": 400}])
    desk.worker()
    desk.sandbox.faults()


def bury(desk: Desk) -> None:
    desk.seed(1, days=1)
    desk.registry.expire("thread", "thread_abc")
    desk.worker()


def clear(desk: Desk) -> None:
    desk.config.unlink()


def let_an_interval_pass(desk: Desk) -> None:
    desk.raw.hdel("lapse:{openai:assistant}:idle-assistants:rules", "woken")


def plan(desk: Desk) -> None:
    desk.good("plan", "-o", "plan.json")


def create_conversations(desk: Desk) -> None:
    desk.sandbox.seed("conversation", ids=["conv_68a1", "conv_77c0"])


def move_away(desk: Desk) -> None:
    desk.good("export", "-o", "registry.jsonl")
    desk.raw.flushall()


def create_assistants(desk: Desk) -> None:
    stamp = desk.registry.stamp("idle-assistants")
    desk.sandbox.seed("assistant", metadata=stamp)
    desk.sandbox.seed("assistant")


def issue(desk: Desk) -> None:
    seed = bytes(range(32))
    (desk.directory / "receipt.json").write_bytes(sealing.seal(receipt(), seed))
    (desk.directory / "receipts.pub").write_text(public_pem(signing.public_of(seed)))


def lose_key(desk: Desk) -> None:
    (desk.directory / "receipts.key").unlink()


def create_vector_store(desk: Desk) -> None:
    desk.sandbox.seed("vector_store")


def ask_for_an_erasure(desk: Desk) -> None:
    desk.raw.hset("lapse:erasures", OPEN, replace(DONE, state=State.OPEN).stored())


def track_a_file(desk: Desk) -> None:
    desk.registry.register("file", "file-1", "chat", subject="user:7")


FIRST: dict[str, Callable[[Desk], None]] = {
    "lapse init": clear,
    "lapse quarantine retry threads thread_abc": quarantine,
    "lapse quarantine retry threads --all": quarantine,
    'lapse quarantine retry threads --all --reason "recogniser added"': quarantine,
    "lapse quarantine drop threads thread_abc --confirm=openai": quarantine,
    "lapse quarantine undo threads thread_abc --confirm=openai": bury,
    "lapse apply plan.json --confirm=openai": plan,
    "lapse purge conversations --confirm=openai": create_conversations,
    "lapse import registry.jsonl": move_away,
    "lapse adopt assistants --policy idle-assistants --confirm=openai": create_assistants,
    "lapse adopt assistants --policy idle-assistants --unstamped --confirm=openai": create_assistants,
    "lapse receipt key --new receipts.key": lose_key,
    "lapse receipt verify receipt.json --public-key receipts.pub": issue,
    "lapse orphans --missing vector_stores": create_vector_store,
    f"lapse erase status {OPEN}": ask_for_an_erasure,
    'lapse subject move file file-1 --to user:42 --to team:a --reason "shared since May"': track_a_file,
    "lapse orphans --run --confirm=openai": let_an_interval_pass,
    "lapse approve 3f2a91c0d4e5 --confirm=openai": lambda desk: halt(desk, "3f2a91c0d4e5"),
}
ASKS = {
    "lapse sweep": 8,
    "lapse apply plan.json --confirm=openai": 5,
    f"lapse receipt {REQUEST} --ids hashed --require-complete": 5,
    **{f"lapse doctor{what}": 5 for what in ("", " --json", " --provider openai", " --canary --confirm=openai")},
    **{f"lapse health{what}": 4 for what in ("", " --json", " --worker", " --beat", " --live", " --live --beat")},
}
"""Examples that end with another code here: nobody can be asked, one of two due ids is unknown, no process runs,
nothing was registered under the subject that was erased."""


@pytest.mark.parametrize("example", [one for one in EXAMPLES if not serves(one)])
def test_an_example_does_what_it_says(desk: Desk, example: str) -> None:
    furnish(desk)
    if example in FIRST:
        FIRST[example](desk)
    result = desk.run(*shlex.split(example)[1:])
    assert ASKS.get(example, 0) == result.code, result


@pytest.mark.parametrize("example", [one for one in EXAMPLES if serves(one)])
def test_an_example_serves_until_it_is_interrupted(desk: Desk, example: str) -> None:
    """On a free port: the one in the example may be taken on this machine."""
    furnish(desk)
    words = shlex.split(example)[1:]
    ends = words[0] == "demo" or "--watch" in example
    if not ends:
        words = [*words, "--port", str(free_port())]
    with desk.start(*words) as process:
        shown = process.stdout if words[0] == "sandbox" or "--watch" in example else process.stderr
        assert shown is not None
        assert shown.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert (130 if ends else 0) == process.returncode
