"""What lets a file outlive a crash of the host."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return when the names of files that were made in a folder, or renamed there, are on the disk.

    Raises:
        OSError: they are not.

    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
