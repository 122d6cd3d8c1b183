"""Where a spool lies, and who may read it."""

import os
from pathlib import Path

from lapse.errors import SpoolUnusable
from lapse.registry.disk import sync_folder

NETWORKED = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "beegfs", "gfs2", "ocfs2"}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.blobfuse2", "fuse.rclone"}
)
"""File systems on which SQLite's locks, or its write-ahead log, cannot be relied on (sqlite.org/wal.html)."""
MOUNTS = Path("/proc/self/mountinfo")


def default(namespace: str) -> Path:
    """Return where the spool of a namespace lies if no call says so: ``LAPSE_SPOOL``, else below the user's state.

    The latter is ``$XDG_STATE_HOME/lapse/<namespace>.spool`` (XDG Base Directory Specification).
    """
    if given := os.environ.get("LAPSE_SPOOL"):
        return Path(given).absolute()
    state = os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state"
    return Path(state) / "lapse" / f"{namespace}.spool"


def exists(path: Path) -> bool:
    """Return True if there is a spool.

    Raises:
        SpoolUnusable: this user may not look.

    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SpoolUnusable(f"the spool {path} cannot be looked at: {error.strerror}") from None
    return True


def prepare(path: Path) -> None:
    """Make the file, for its owner alone; with ``LAPSE_SPOOL_GROUP`` for that group too, as its folder.

    An existing file is not opened: closing it would end this process' locks on it (sqlite.org/lockingv3.html).

    Raises:
        SpoolUnusable: it cannot be made, or lies on a network file system.

    """
    group = os.environ.get("LAPSE_SPOOL_GROUP")
    try:
        number = _group(group) if group else -1
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700)
            _share(path.parent, number, 0o2770)
        refuse_networked(path, MOUNTS)
        if not exists(path):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            _share(path, number, 0o660)
            sync_folder(path.parent)  # or a crash of the host takes the name, and all that was acknowledged under it
    except FileExistsError:  # another process made it meanwhile
        pass
    except (OSError, KeyError) as error:
        raise SpoolUnusable(f"the spool {path} cannot be made: {error}") from None


def refuse_networked(path: Path, mounts: Path) -> None:
    """Refuse a path on a network file system; where there is no list of mounts, nothing is known of it.

    Raises:
        SpoolUnusable: it lies on one.

    """
    if not mounts.exists():
        return
    found = {}
    for line in mounts.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        found[before.split()[4].replace("\\040", " ")] = after.split()[0]
    folder = path.parent.resolve()
    type_ = next((found[str(one)] for one in [folder, *folder.parents] if str(one) in found), "")
    if type_ in NETWORKED:
        raise SpoolUnusable(f"the spool {path} lies on {type_}: give spool= a path on a local disk")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without a name, in a container
        return Path("/")


def _group(name: str) -> int:
    import grp  # noqa: PLC0415 - there is none on Windows

    return grp.getgrnam(name).gr_gid


def _share(path: Path, group: int, mode: int) -> None:
    if group != -1:
        os.chown(path, -1, group)
        path.chmod(mode)
