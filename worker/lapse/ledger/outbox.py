"""The outbox: confirmed deletions that Redis did not take, on disk until it has.

One file for each process, appended and synced as a confirmation could not be recorded: one JSON object a line, a batch
of outcomes or the name of one that Redis has acknowledged since. A process holds a lock on its own file while it lives,
so that the next one to start knows which files nobody answers for any more, and records what is in them.
"""

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from lapse.errors import ConfigError
from lapse.ledger.partition import Ledger
from lapse.policy.reload import state_folder
from lapse.registry.disk import sync_folder
from lapse.registry.model import Partition

log = structlog.get_logger("lapse")

SUFFIX = ".outbox"
FIX = "give [sweep] outbox, LAPSE_STATE_DIR or systemd's StateDirectory a folder on a disk"


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A batch of outcomes as a script takes it, and where it belongs. ``epoch``: the registry's at that time."""

    namespace: str
    epoch: str
    provider: str
    kind: str
    batch: str
    said: Mapping[str, Any]


def folder_of(configured: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return the folder for outboxes: of ``[sweep] outbox``, ``LAPSE_STATE_DIR`` or systemd's; None without any."""
    return Path(configured) if configured else state_folder(environ)


def check(folder: Path) -> None:
    """Return if confirmations can be kept in a folder; make it if it is not there.

    Raises:
        ConfigError: it is a symbolic link of others than root's, another user's, open to others, no folder, or cannot
            be written.

    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = _told(folder)
    except OSError as error:
        raise ConfigError(f"[sweep] outbox {folder} cannot be made: {error.strerror}") from None
    wrong = _wrong(told)
    if wrong:
        raise ConfigError(f"[sweep] outbox {folder} {wrong}: give a folder of lapse's own, mode 0700")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"[sweep] outbox {folder} cannot be written by this user: chown it, or name another")


def _told(folder: Path) -> os.stat_result:
    told = folder.lstat()
    return folder.stat() if of_system(told, os.getuid()) else told


def of_system(told: os.stat_result, user: int) -> bool:
    """Return True for a link that root made for another user, as systemd does where a unit has ``DynamicUser``."""
    return stat.S_ISLNK(told.st_mode) and told.st_uid == 0 and user != 0


def _wrong(told: os.stat_result) -> str:
    if stat.S_ISLNK(told.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(told.st_mode):
        return "is no folder"
    volume = of_group(told, os.getuid(), {os.getgid(), *os.getgroups()})
    if told.st_uid != os.getuid() and not volume:
        return f"belongs to user {told.st_uid}"
    if told.st_mode & stat.S_IWOTH or (told.st_mode & stat.S_IWGRP and not volume):
        return "may be written by others"
    return ""


def of_group(told: os.stat_result, user: int, groups: Container[int]) -> bool:
    """Return True for a folder as Kubernetes gives a volume to its ``fsGroup``: root's, and one group's to write to.

    A folder that lapse made in it has been given to that group too, where ``fsGroupChangePolicy`` is ``Always``.
    """
    own = told.st_uid == user and bool(told.st_mode & stat.S_ISGID)
    return user != 0 and (told.st_uid == 0 or own) and told.st_gid in groups


class Outbox:
    """The file of one process. Nothing is opened before the first confirmation has to be kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: int | None = None
        self._path: Path | None = None
        self._kept: set[str] = set()

    def keep(self, one: Unrecorded) -> None:
        """Append a batch, on disk when this returns.

        Raises:
            OSError: it is not kept.

        """
        if one.batch in self._kept:
            return
        self._append(
            {
                "namespace": one.namespace,
                "epoch": one.epoch,
                "provider": one.provider,
                "kind": one.kind,
                "batch": one.batch,
                "said": one.said,
            }
        )
        self._kept.add(one.batch)

    def keeps(self, batch: str) -> bool:
        """Return True if a batch is on disk, and Redis has not acknowledged it."""
        return batch in self._kept

    def recorded(self, batch: str) -> None:
        """Note that Redis has acknowledged a batch; the file goes with the last one.

        Raises:
            OSError: the note is not kept; recording the batch once more changes nothing.

        """
        if batch not in self._kept:
            return
        self._kept.discard(batch)
        if self._kept:
            # Said in a further line: to rewrite the file would put the others at risk for one that is safe.
            self._append({"recorded": batch})
        else:
            self.close()

    def close(self) -> None:
        """Give up the file: it is removed if everything in it was recorded."""
        if self._file is None or self._path is None:
            return
        if not self._kept:
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = self._path = None

    def _append(self, record: Mapping[str, Any]) -> None:
        if self._file is None:
            check(self.folder)
            path = self.folder / f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            # The kernel lets go of the lock however this process ends: nobody answers any more for a file without one.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path = path
            sync_folder(self.folder)  # a file is on disk once its name is
        _append(self._file, record)


def _append(file: int, record: Mapping[str, Any]) -> None:
    """Write a line, on disk when this returns, behind the end of one that a full disk or a kill had cut off.

    Raises:
        OSError: it is not there, or a part of it is.

    """
    size = os.fstat(file).st_size
    cut = size and os.pread(file, 1, size - 1) != b"\n"
    line = (b"\n" if cut else b"") + json.dumps(record, separators=(",", ":")).encode() + b"\n"
    if os.write(file, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file)


@dataclass(slots=True)
class Abandoned:
    """A file that no living process answers for, locked by this one. ``batches``: what is not recorded yet."""

    path: Path
    batches: tuple[Unrecorded, ...]
    _file: int

    def recorded(self, batch: str) -> None:
        """Note that Redis has acknowledged a batch, while others stay; without the note it is recorded once more."""
        with suppress(OSError):
            _append(self._file, {"recorded": batch})

    def remove(self) -> None:
        """Remove the file: Redis has acknowledged all that was in it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def abandoned(folder: Path) -> Iterator[Abandoned]:
    """Yield the files of processes that have ended, each locked while it is looked at."""
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        try:
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between opening and locking its owner may have removed it: what is in it is recorded then.
            if os.fstat(file).st_uid != os.getuid() or not path.exists():
                raise BlockingIOError
        except OSError:
            os.close(file)
            continue
        one = Abandoned(path, tuple(_batches(path.read_bytes().splitlines())), file)
        try:
            yield one
        finally:
            one.close()


def _batches(lines: Sequence[bytes]) -> Iterator[Unrecorded]:
    """Yield what is not recorded; a line that was cut off when its process ended was never said to be kept."""
    found: dict[str, Unrecorded] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "recorded" in record:
            found.pop(record["recorded"], None)
        else:
            found[record["batch"]] = Unrecorded(**record)
    yield from found.values()


async def replay(ledger: Ledger, outbox: Outbox, epoch: str) -> int:
    """Record the batches that processes of this host left behind; return how many outcomes that were.

    Those of another epoch stay where they are: the registry that they belong to is not this one.

    Raises:
        RegistryError: Redis does not take them now either; they stay.

    """
    recorded = 0
    for file in abandoned(outbox.folder):
        recorded += await _replayed(ledger, file, epoch)
    return recorded


async def _replayed(ledger: Ledger, file: Abandoned, epoch: str) -> int:
    mine = [one for one in file.batches if (one.namespace, one.epoch) == (ledger.namespace, epoch)]
    foreign, recorded = len(file.batches) - len(mine), 0
    for batch in mine:
        recorded += await _record(ledger, batch)
        if foreign:  # the file stays, and Redis does not know a batch for ever
            file.recorded(batch.batch)
    if foreign:
        log.warning("outbox.foreign", path=str(file.path), batches=foreign, epoch=epoch)
    else:
        file.remove()
    return recorded


async def _record(ledger: Ledger, batch: Unrecorded) -> int:
    await ledger.record(Partition(batch.provider, batch.kind, ""), batch.said)
    ids = [one["id"] for one in batch.said["settled"]]
    log.info("outbox.recorded", ids=ids, provider=batch.provider, kind=batch.kind, batch=batch.batch)
    return len(ids)
