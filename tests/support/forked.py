"""The script ``lapse`` in a process of its own that need not import anything: one that has is forked for each call.

The start of Python and the imports take half a second otherwise, and there are a thousand calls. Arguments,
environment, directory, the three files, signals and the exit code are a program's own.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import NoReturn

SCRIPT = Path(sys.executable).with_name("lapse")
REQUEST = 150_000
"""Bytes that a call may have: one message of a socket."""


def call(arguments: Sequence[str], cwd: Path, environ: Mapping[str, str], files: Sequence[int], within: float) -> int:
    """Run the script with these three files, and return its exit code, that of a signal negative.

    Raises:
        TimeoutExpired: it did not end within so many seconds, and was killed.

    """
    ours, theirs = socket.socketpair()
    with ours:
        asked = json.dumps([list(arguments), str(cwd), dict(environ)]).encode()
        with theirs:
            socket.send_fds(_parent(), [asked], [*files, theirs.fileno()])
        pid = int.from_bytes(ours.recv(4))
        ours.settimeout(within)
        try:
            return int.from_bytes(ours.recv(4), signed=True)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutExpired([str(SCRIPT), *arguments], within) from None


@functools.cache
def _parent() -> socket.socket:
    """Start the process that is forked; it ends when this one has."""
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        parent = Popen([sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        parent.wait(10)

    atexit.register(end)
    return ours


def _serve(calls: socket.socket) -> None:
    """Fork for each call, until nobody can call any more."""
    while True:
        asked, files, _flags, _address = socket.recv_fds(calls, REQUEST, 4)
        if not asked:
            return
        if not os.fork():
            calls.close()
            _watch(asked, files)
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(asked: bytes, files: list[int]) -> NoReturn:
    """Fork once more, and say which process that is and how it ended."""
    with socket.socket(fileno=files.pop()) as caller:
        pid = os.fork()
        if not pid:
            caller.close()
            _become(asked, files)
        caller.sendall(pid.to_bytes(4))
        _, status = os.waitpid(pid, 0)
        caller.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))
    os._exit(0)


def _become(asked: bytes, files: list[int]) -> NoReturn:
    """Be the script."""
    arguments, directory, environ = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [str(SCRIPT), *arguments]
    _end(main())


def _end(code: int) -> NoReturn:
    """End as Python does, but without taking every module apart: that takes longer than most calls."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # what nobody awaited or closed is said
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    from lapse.cli import main
    from lapse.cli.main import SECTIONS

    for _name in {module for section in SECTIONS.values() for module, _ in section.values()}:
        import_module(f"lapse.cli.{_name}")
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
