"""lapse receipt: from an erasure in the registry to a file that somebody else verifies."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from lapse.cli.main import run
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import free_port
from support.commandline import ENFORCED, Desk, Result
from support.erased import DONE, REQUEST

ERASED = {"o": "erased", "at": 1_764_315_009_000, "status": 200, "request": "req_1", "p": "chat"}


class Inside(Desk):
    """A desk whose commands run in this process: here are many, and to start a program takes longer than each."""

    def run(self, *arguments: str, **environ: str) -> Result:
        environ.pop("given", None)  # nobody is asked anything
        out, err = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(self.directory)
            for name, value in (self.environ | environ).items():
                patch.setenv(name, value)
            code = run(arguments)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read())
        return Result(code, *said)


@pytest.fixture
def desk(tmp_path: Path, redis_url: str, sandbox: Sandbox) -> Iterator[Inside]:
    """Return such a desk with a key."""
    made = Inside(tmp_path, redis_url, sandbox)
    key(made)
    yield made
    made.close()


@pytest.fixture
def erased(desk: Inside) -> Inside:
    """Return one with an erasure of a month ago that found two threads."""
    ask(desk)
    row(desk, "thread_1", ERASED)
    row(desk, "thread_2", ERASED | {"o": "already_gone", "status": 404, "why": "seen gone by the same key"})
    return desk


def ask(desk: Desk, request: str = REQUEST) -> None:
    desk.raw.hset("lapse:erasures", request, DONE.stored())


def row(desk: Desk, id_: str, said: dict[str, Any]) -> None:
    desk.raw.sadd("lapse:slots", "openai/thread")
    desk.raw.hset(f"lapse:{{openai:thread}}:erased:{REQUEST}", id_, json.dumps(said))


def key(desk: Desk, name: str = "receipts.key") -> str:
    told = desk.good("receipt", "key", "--new", name).out
    desk.environ["LAPSE_RECEIPTS__KEY_FILE"] = str(desk.directory / name)
    (desk.directory / f"{name}.pub").write_text(told)
    return told.splitlines()[0]


def test_an_erasure_has_a_receipt_that_verifies_and_says_what_it_found(erased: Desk) -> None:
    told = erased.good("receipt", REQUEST, "-o", "receipt.json")
    file = erased.directory / "receipt.json"
    made = json.loads(file.read_bytes())

    assert (True, 2, {"erased": 1, "already_gone": 1}) == (made["complete"], made["found"], made["counts"])
    assert ["thread_1", "thread_2"] == [one["id"] for one in made["ids"]]
    assert f"Request {REQUEST} of user:42: 2 ids found, complete." in told.err
    assert 0o600 == file.stat().st_mode & 0o777
    assert "is what was signed with sha256:" in erased.good("receipt", "verify", "receipt.json").out
    verified = erased.good("receipt", "verify", "receipt.json", "--json").json
    assert (True, made["ids"]) == (verified["ok"], verified["receipt"]["ids"])


def test_what_is_printed_is_the_file(erased: Desk) -> None:
    (erased.directory / "printed.json").write_text(erased.good("receipt", REQUEST).out)

    erased.good("receipt", "verify", "printed.json")


def test_a_terminal_obeys_nothing_of_it(erased: Desk) -> None:
    row(erased, "thread_1", ERASED | {"why": "\x9b2J\u202e"})

    assert '"detail":"\\u009b2J\\u202e"' in erased.terminal("receipt", REQUEST).out


def test_it_verifies_elsewhere_by_a_fingerprint_or_a_public_key_and_by_no_other(erased: Desk) -> None:
    """Neither Redis nor a policy file is there."""
    ours = (erased.directory / "receipts.key.pub").read_text().splitlines()[0]
    erased.good("receipt", REQUEST, "-o", "receipt.json")
    erased.good("receipt", "--html", REQUEST, "-o", "receipt.html")
    theirs = key(erased, "their.key")
    erased.config.unlink()
    away = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}

    for file in ("receipt.json", "receipt.html"):
        for trusted in (("receipts.key.pub",), (ours,), (theirs, "receipts.key.pub")):
            named = [word for one in trusted for word in ("--public-key", one)]
            erased.good("receipt", "verify", file, *named, **away)
        refused = erased.run("receipt", "verify", file, "--public-key", theirs, **away)
        assert (5, True) == (refused.code, f"signed with the key {ours}, which is none" in refused.out)
    assert "--public-key FILE|FINGERPRINT" in erased.run("receipt", "verify", "receipt.json").err


def test_one_changed_byte_is_5(erased: Desk) -> None:
    for option, name in (((), "receipt.json"), (("--html",), "receipt.html")):
        erased.good("receipt", REQUEST, *option, "-o", name)
        file = erased.directory / name
        file.write_bytes(file.read_bytes().replace(b"req_1", b"req_2", 1))

        told = erased.run("receipt", "verify", name)
        assert (5, True) == (told.code, "altered" in told.out)
        assert False is json.loads(erased.run("receipt", "verify", name, "--json").out)["ok"]


def test_hashed_it_names_nobody(erased: Desk) -> None:
    early = erased.run("receipt", REQUEST, "--ids", "hashed")
    assert (4, True) == (early.code, "has no salt yet" in early.err)

    erased.worker()
    for option in ((), ("--html",)):
        made = erased.good("receipt", REQUEST, "--ids", "hashed", *option)
        assert "hmac:" in made.out
        assert not re.search("thread_[12]|user:42|same key", made.out + made.err)


def test_what_is_not_complete_says_so_and_is_5_where_that_is_asked_for(erased: Desk) -> None:
    erased.good("receipt", REQUEST, "--require-complete")
    row(erased, "thread_3", {"o": "dropped"})
    made = erased.good("receipt", REQUEST)

    assert (False, ["unprovable"]) == (made.json["complete"], made.json["reasons"])
    assert "not complete (unprovable)" in made.err
    strict = erased.run("receipt", REQUEST, "--require-complete", "-o", "receipt.json")
    assert 5 == strict.code
    erased.good("receipt", "verify", "receipt.json")


def test_of_what_workers_erase_it_says_every_answer_and_in_the_end_that_it_is_complete(desk: Desk) -> None:
    mine = desk.seed(2, subject="user:42")
    (held,) = desk.seed(1, subject="user:42")
    desk.registry.hold("thread", held, reason="case 7")
    desk.registry.register("thread", "thread_9", "chat", labels={"lapse.missing": "subject"})
    desk.worker(sweeps=0)
    assert 5 == desk.run("erase", "--subject", "user:42", "--request-id", REQUEST, "--confirm=openai", "--no-wait").code
    desk.erases()
    desk.worker(sweeps=0)

    made = desk.good("receipt", REQUEST).json
    told = {one["id"]: one for one in made["ids"]}
    assert (False, ["held", "late", "not_concluded"]) == (made["complete"], made["reasons"])
    assert ({*mine, held}, 1) == (set(told), made["unsubjected"])
    assert ("held", "case 7", None) == tuple(told[held][name] for name in ("outcome", "detail", "audit"))
    lines = [json.loads(line) for line in (desk.directory / "audit.jsonl").read_text().splitlines()]
    settled = {line["id"]: line for line in lines if line["event"] == "settled"}
    for id_ in mine:
        line = settled[id_]
        assert ("erased", 200, line["request_id"]) == tuple(
            told[id_][name] for name in ("outcome", "status", "request_id")
        )
        assert {name: line[name] for name in ("chain", "n", "mac")} == told[id_]["audit"]

    desk.registry.unhold("thread", held)
    desk.erases()
    stored: Any = json.loads(str(desk.raw.hget("lapse:erasures", REQUEST)))
    desk.raw.hset("lapse:erasures", REQUEST, json.dumps(stored | {"until": stored["at"]}))
    desk.erases()
    assert {"erased": 3} == desk.good("receipt", REQUEST, "--require-complete").json["counts"]


def test_of_a_subject_nobody_knows_nothing_was_found(desk: Desk) -> None:
    ask(desk)
    made = desk.good("receipt", REQUEST)

    assert (0, None, []) == (made.json["found"], made.json["complete"], made.json["ids"])
    assert "0 ids found, nothing was registered" in made.err
    assert 5 == desk.run("receipt", REQUEST, "--require-complete").code


def test_the_place_in_the_audit_is_that_of_the_answer(erased: Desk) -> None:
    erased.configure(ENFORCED)
    (id_,) = erased.seed(1)
    erased.worker()
    file = erased.directory / "audit.jsonl"
    (line,) = (json.loads(line) for line in file.read_text().splitlines() if '"event":"settled"' in line)
    row(erased, id_, ERASED | {"at": line["at"], "request": line["request_id"]})
    row(erased, "thread_1", ERASED)

    def told(*option: str) -> dict[str, Any]:
        return {one["id"]: one["audit"] for one in erased.good("receipt", REQUEST, *option).json["ids"]}

    place = {name: line[name] for name in ("chain", "n", "mac")}
    assert {id_: place, "thread_1": None, "thread_2": None} == told()
    file.rename(erased.directory / "moved.jsonl")
    assert None is told()[id_]
    assert place == told("--audit", "moved.jsonl")[id_]
    assert f"line {line['n']}" in re.sub(
        "<[^>]*>", "", erased.good("receipt", REQUEST, "--html", "--audit", "moved.jsonl").out
    )


def test_of_several_answers_the_one_of_this_erasure_counts(erased: Desk) -> None:
    def line(n: int, **said: object) -> str:
        record = {"seq": f"{n}-0", "event": "settled", "provider": "openai", "kind": "thread", "id": "thread_1"} | said
        text = json.dumps(record, separators=(",", ":"))
        return f'{text[:-1]},"chain":"openai/thread/e/1-0/sha256","n":{n},"mac":"{n:064x}"}}\n'

    at, other = 1_764_315_009_000, {"id": "thread_2", "request_id": "req_1"}
    lines = [
        line(1, at=at, request_id="req_0"),
        line(2, at=at, request_id="req_1", event="intent"),
        line(3, at=at + 60, request_id="req_1"),
        line(4, at=at + 9, request_id="req_1"),
        line(5, at=at + 99, request_id="req_1"),
        line(6, at="late", **other),
        line(7, at=at, **other)[:-2] + "\n",
        line(8, at=at, detail='"event":"settled"', **other | {"event": "retried"}),
        line(9, at=at, **other).replace('{"seq"', '{"seq":1,"seq"'),
    ]
    (erased.directory / "audit.jsonl").write_text("".join(lines))

    assert [4, 6] == [one["audit"]["n"] for one in erased.good("receipt", REQUEST).json["ids"]]


def test_without_a_key_the_two_commands_that_are_printed_make_one(erased: Desk) -> None:
    del erased.environ["LAPSE_RECEIPTS__KEY_FILE"]
    (erased.directory / "receipts.key").unlink()
    refused = erased.run("receipt", REQUEST)
    commands = [line.strip() for line in refused.err.splitlines() if line.startswith("  ")]
    assert (2, 2) == (refused.code, len(commands))

    script = "\n".join(["set -e", *commands, f"lapse receipt {REQUEST} -o receipt.json"])
    path = f"{Path(sys.executable).parent}:{erased.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", script], cwd=erased.directory, env=erased.environ | {"PATH": path}, check=True, timeout=60
    )
    erased.good("receipt", "verify", "receipt.json", LAPSE_RECEIPTS__KEY_FILE="receipts.key")


def test_the_key_is_read_by_nothing_else_and_is_not_the_audits(erased: Desk) -> None:
    (erased.directory / "receipts.key").chmod(0o644)
    erased.good("check-config")
    assert "can be read by everybody" in erased.run("receipt", REQUEST).err

    (erased.directory / "receipts.key").chmod(0o600)
    (erased.directory / "audit.key").write_bytes((erased.directory / "receipts.key").read_bytes())
    refused = erased.run("receipt", REQUEST, LAPSE_AUDIT__KEY_FILE="audit.key")
    assert (2, True) == (refused.code, "holds the audit's key" in refused.err)


def test_the_public_key_is_shown_again(erased: Desk) -> None:
    kept = (erased.directory / "receipts.key.pub").read_text()

    assert kept == erased.good("receipt", "key").out
    told = erased.good("receipt", "key", "--json").json
    assert kept == f"{told['id']}\n{told['public']}"
    again = erased.run("receipt", "key", "--new", "receipts.key")
    assert (2, True) == (again.code, "cannot be made: File exists" in again.err)


def test_wrong_calls_are_2_and_say_what_is_meant(erased: Desk) -> None:
    other = REQUEST.replace("0190", "0191")
    for arguments, why in (
        (("verfy",), "give a UUID"),
        (("../x", "--html"), "give a UUID"),
        ((other,), f"there is no request {other}"),
        ((), "REQUEST"),
        ((REQUEST, "--ids", "none"), "'none' is not one of"),
        ((REQUEST, "--audit", "none.jsonl"), "none.jsonl"),
        ((REQUEST, "-o", "none/receipt.json"), "cannot be written"),
        (("verify", "none.json"), "none.json"),
        (("verify", "receipts.key", "--public-key", "receipts.key"), "holds a private key"),
        (("verify", "receipts.key", "--public-key", "sha256:00"), "no fingerprint"),
    ):
        told = erased.run("receipt", *arguments)
        assert (2, True) == (told.code, why in told.err + told.out), told
    (erased.directory / "bad.gz").write_bytes(b"x")
    assert "bad.gz cannot be read" in erased.run("receipt", REQUEST, "--audit", "bad.gz").err


def test_what_has_ended_has_no_receipt_that_says_that_nothing_was_found(erased: Desk) -> None:
    erased.raw.hset("lapse:erasures", REQUEST, DONE.stored().replace("user:42", ""))

    assert "has ended" in erased.run("receipt", REQUEST).err


def test_without_cryptography_it_is_2_and_names_the_line_that_installs_it(erased: Desk) -> None:
    program = """
import sys
from lapse.cli.main import run
sys.modules["cryptography"] = None
calls = ["REQUEST"], ["verify", "receipts.key", "--public-key", "receipts.key.pub"], ["key"]
sys.exit(sum(run(["receipt", *call]) for call in calls))
""".replace("REQUEST", REQUEST)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=erased.directory,
        env=erased.environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (6, 3) == (done.returncode, done.stderr.count("pip install 'PATH/TO/lapse[worker,receipts]'")), done
