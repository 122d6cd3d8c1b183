"""A reader at a shell: types what a page shows, in its order, and compares what comes back."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from select import select
from typing import IO, Self

from docs.blocks import Block

PATIENCE = 60.0  # seconds
PORTS = ("6390", "8099", "9808")
"""What pages show: another program of this machine may have them."""
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
DONE = "\x01done"
_PYTHON = f"""
import json, sys, traceback
names = {{"__name__": "__main__"}}
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "<page>", "exec"), names)
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        code = 1
    print(f"\\n{DONE} {{code}}", flush=True)
"""


class Session:
    """What one page is read in: a folder, a shell, and one interpreter for its Python.

    A block of ``console`` has commands behind ``$`` and what they print below them, with ``...`` for what differs from
    time to time. Behind ``run`` may stand: ``background`` (another terminal: the command goes on until the page ends),
    ``again`` (typed again until it prints that), ``fails``. A block whose first line is a comment naming a file
    is that file. One of ``python`` goes on in the interpreter of those before it, and one of ``text`` is what the block
    before it printed.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._home = home
        self._ports = {shown: _free_port() for shown in PORTS}
        self._environ = {**environ, "HOME": str(home), "PYTHONUNBUFFERED": "1"}
        if not shutil.which("curl", path=environ["PATH"]):
            self._environ["PATH"] = f"{environ['PATH']}:{_programs(home)}"
        self._shell = self._open("bash", "--noprofile", "--norc")
        self._python: subprocess.Popen[bytes] | None = None
        self._printed = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._shell, *([self._python] if self._python else [])):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def play(self, block: Block) -> None:
        """Do what a block shows; its ports are free ones.

        Raises:
            AssertionError: it does not do what the page says.

        """
        for shown, port in self._ports.items():
            block = replace(block, text=block.text.replace(shown, port))
        if file := _FILE.match(block.text):
            path = self._home / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            return
        match block.language:
            case "console":
                for command, wanted in commands(block.text):
                    self._type(block, command, wanted)
            case "python":
                self._python = self._python or self._open(sys.executable, "-c", _PYTHON)
                code, self._printed = _answer(self._python, json.dumps(block.text) + "\n", block)
                assert 0 == code, f"{block.where}: {self._printed}"
            case "text":
                _compare(block, block.text, self._printed)
            case _:
                raise AssertionError(f"{block.where}: nobody can run {block.language}: name a file in its first line")

    def _type(self, block: Block, command: str, wanted: str) -> None:
        if "background" in block.words:
            _answer(self._shell, f"{command} > background.log 2>&1 &\necho; echo {DONE} $?\n", block)
            return
        until = time.monotonic() + PATIENCE
        while True:
            code, self._printed = _answer(self._shell, f"{command}\necho; echo {DONE} $?\n", block)
            as_wanted = (code != 0) == ("fails" in block.words) and _same(wanted, self._printed)
            if as_wanted or "again" not in block.words or time.monotonic() > until:
                break
            time.sleep(1)  # as somebody who waits does: each command is a process of its own
        assert (code != 0) == ("fails" in block.words), f"{block.where}: {command} ended with {code}: {self._printed}"
        _compare(block, wanted, self._printed)

    def _open(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=self._environ,
            cwd=self._home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _programs(home: Path) -> Path:
    """Return a folder with the one program that pages ask for and a machine may not have."""
    curl = home / ".local" / "bin" / "curl"
    curl.parent.mkdir(parents=True)
    curl.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("curl.py")} "$@"\n')
    curl.chmod(0o755)
    return curl.parent


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, with what stands below it."""
    for part in f"\n{text}".split("\n$ ")[1:]:
        lines = part.split("\n")
        ends = next(n for n, line in enumerate(lines) if not line.endswith("\\"))
        yield "\n".join(lines[: ends + 1]), "\n".join(lines[ends + 1 :])


def _answer(process: subprocess.Popen[bytes], said: str, block: Block) -> tuple[int, str]:
    """Say something to a process; return how it ended, and what came back."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(said.encode())
    process.stdin.flush()
    read, until = "", time.monotonic() + PATIENCE
    while DONE not in read.rpartition("\n")[0].rpartition("\n")[2]:
        read += _some(process.stdout, until, block, read)
    printed, _, ended = read.rpartition(DONE)
    return int(ended), printed.rstrip("\n")


def _some(pipe: IO[bytes], until: float, block: Block, so_far: str) -> str:
    ready, _, _ = select([pipe], [], [], max(0, until - time.monotonic()))
    assert ready, f"{block.where} has not ended within {PATIENCE:g} s: {so_far}"
    some = os.read(pipe.fileno(), 65536)
    assert some, f"{block.where} has ended the shell: {so_far}"
    return some.decode()


def _same(wanted: str, printed: str) -> bool:
    checker = OutputChecker()
    return not wanted.strip() or checker.check_output(
        wanted.strip() + "\n", printed.strip() + "\n", ELLIPSIS | NORMALIZE_WHITESPACE
    )


def _compare(block: Block, wanted: str, printed: str) -> None:
    assert _same(wanted, printed), f"{block.where} shows\n{wanted}\nand this came:\n{printed}"
