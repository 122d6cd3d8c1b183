"""Files that are there once they are whole: what commands write for somebody to keep."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lapse.cli import output
from lapse.cli.exit_codes import Code, Refused
from lapse.registry.disk import sync_folder


@contextmanager
def whole(out: str) -> Iterator[BinaryIO]:
    """Give a file that is there under its name once it is whole, on disk, for its owner's eyes; or stdout.

    Raises:
        Refused: it cannot be written.

    """
    if out == "-":
        yield from _stdout()
        return
    path = Path(out)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise Refused(Code.USAGE, f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            fresh.unlink()


def _stdout() -> Iterable[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        output.reader_gone()
        raise Refused(Code.PARTIAL, "whoever read it has gone before its end") from None
