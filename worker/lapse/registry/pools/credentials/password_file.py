"""A password in a file, which is read anew for every connection: whoever rotates it writes the file, and no more."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

from lapse.errors import ConfigError

LARGEST = 65536
"""Bytes. Whatever is larger is some other file."""

_told: dict[Callable[[str], None], None] = {}


def tell(listener: Callable[[str], None]) -> None:
    """Have every password that is read said to a listener: to what keeps it out of a log."""
    _told[listener] = None


@dataclass(frozen=True, slots=True)
class PasswordFile(redis.CredentialProvider):
    """The password in a file, and the user whose it is.

    Args:
        path: The file. Whoever can read it is up to its owner: secrets that a container is given are often mode 0444.
        user: None: the server's default user.
        key: What the file is called where it is configured.

    """

    path: Path
    user: str | None = None
    key: str = "password_file"

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password as it is now, behind its user.

        Raises:
            ConfigError: the file cannot be read, or holds no password.

        """
        password = self._read().strip()
        if not password:
            raise ConfigError(f"{self.key} {self.path} is empty: it has to hold the password")
        if not password.isprintable():
            raise ConfigError(f"{self.key} {self.path} holds more than a password: one line, as text")
        for listener in _told:
            listener(password)
        return (self.user, password) if self.user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same: what the file holds is a few bytes, and read at once."""
        return self.get_credentials()

    def _read(self) -> str:
        try:
            with self.path.open("rb") as file:
                said = file.read(LARGEST + 1)
            if len(said) > LARGEST:
                raise ConfigError(f"{self.key} {self.path} has more than {LARGEST} bytes: it is no password")
            return said.decode()
        except OSError as error:
            raise ConfigError(f"{self.key} {self.path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{self.key} {self.path} holds more than a password: one line, as text") from None
