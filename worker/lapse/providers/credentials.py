"""An account's key: where it comes from, looked up for every request. A mounted file changes under a running worker."""

from collections.abc import Mapping
from pathlib import Path

from lapse.providers.account import Account


def origin(account: Account) -> str:
    """Return what an account's credential is called where it is set, and nothing of its content."""
    if account.auth:
        return f"auth = {account.auth!r}"
    if account.api_key_env:
        return f"environment variable {account.api_key_env}"
    return f"file {account.api_key_file}" if account.api_key_file else "nobody: this account has none"


class NoCredential(Exception):
    """There is no usable key now; the text says where one was looked for."""


class Credential:
    """The key in an environment variable or a file."""

    def __init__(self, account: Account, environ: Mapping[str, str]) -> None:
        self._account = account
        self._environ = environ
        self._stamp: tuple[int, int, int] | None = None
        self._from_file = ""

    async def current(self) -> str:
        """Return the key, or an empty string for an account that is configured without one.

        Raises:
            NoCredential: it is missing, unreadable, or nothing that a header can carry.

        """
        return self.key()

    async def renewed(self, _refused: str) -> str | None:
        """Return the key to try again with after a 401, or None: a key does not expire."""
        return None

    def principal(self, key: str) -> str:
        """Return whom a request with this key was made for: a key stands for nobody but itself."""
        return key

    async def aclose(self) -> None:
        """Do nothing: there is nothing open."""

    def key(self) -> str:
        """Return the key, as ``current`` does."""
        if self._account.api_key_env:
            origin, key = self._account.api_key_env, self._environ.get(self._account.api_key_env, "")
        elif self._account.api_key_file:
            origin, key = self._account.api_key_file, self._read(Path(self._account.api_key_file))
        else:
            return ""
        key = key.strip()
        if not key:
            raise NoCredential(f"{origin} holds no key for provider {self._account.name!r}: set it")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise NoCredential(
                f"{origin} holds more than a key for provider {self._account.name!r}: one line, no spaces"
            )
        return key

    def _read(self, path: Path) -> str:
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._from_file, self._stamp = path.read_text(), stamp
        except (OSError, UnicodeDecodeError) as error:
            self._stamp = None
            raise NoCredential(f"{path} cannot be read for provider {self._account.name!r}: {error}") from error
        return self._from_file
