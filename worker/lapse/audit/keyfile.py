"""Files that hold a key: what is read of one, and when it is refused."""

import stat
from pathlib import Path

from lapse.errors import ConfigError

LARGEST = 4096
"""Bytes. Whatever is larger is some other file."""


def read(section: str, path: Path, making: str) -> bytes:
    """Return what the file named by the ``key_file`` of a section holds.

    Args:
        section: As the policy file writes it.
        path: The file.
        making: The command that makes one.

    Raises:
        ConfigError: it cannot be read, is no file, is too large, or everybody on this host can read it.

    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{section} key_file {path} is not a file: make one with `{making}`")
        if status.st_mode & stat.S_IROTH:
            raise ConfigError(
                f"{section} key_file {path} can be read by everybody: chmod o= {path}; of a Secret of "
                "Kubernetes: defaultMode: 0440, and fsGroup"
            )
        if status.st_size > LARGEST:
            raise ConfigError(
                f"{section} key_file {path} has {status.st_size} bytes: it is no key; `{making}` makes one"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{section} key_file {path} cannot be read ({error.strerror}): mend that, or make a key with `{making}`"
        ) from None
