"""Redis users whose password changes while they are at work."""

import base64
import itertools
import json
import time
from pathlib import Path
from typing import Any, Self

import redis

USER = "app"


class Rotating:
    """The password of user ``app`` on servers that know nobody else without one, and the file that holds it.

    Attributes:
        file: The file.
        password: The password as it is now.

    """

    def __init__(self, file: Path, *admins: redis.Redis, user: str = USER) -> None:
        self.file = file
        self.password = ""
        self._user = user
        self._admins = admins
        self._numbers = itertools.count(1)
        self.rotate()

    def rotate(self, password: str | None = None) -> Self:
        """Give the user another password, write it into the file, and end all connections that it has."""
        before, self.password = self.password, password or f"password-{next(self._numbers)}"
        self._tell(f">{self.password}")
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{self.password}\n")
        fresh.rename(self.file)
        if before:
            self._tell(f"<{before}")
        for admin in self._admins:
            if self._user != "default":
                admin.execute_command("CLIENT", "KILL", "USER", self._user)
        return self

    def _tell(self, rule: str) -> None:
        for admin in self._admins:
            admin.execute_command("ACL", "SETUSER", self._user, "on", "~*", "&*", "+@all", rule)


class Issuer(redis.CredentialProvider):
    """A stand-in for who issues tokens: what it said, in order, and its next answers."""

    def __init__(self, *answers: tuple[str] | tuple[str, str]) -> None:
        self.said: list[tuple[str] | tuple[str, str]] = []
        self._answers = list(answers)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.said.append(answer)
        return answer

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def token(seconds: float, **claims: Any) -> str:
    """Return an unsigned JSON Web Token that ends after so many seconds."""
    said = {"exp": time.time() + seconds, **claims}
    parts = ({"alg": "none", "typ": "JWT"}, said)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, ""])


def named(url: str) -> str:
    """Return the URL of a registry with the user in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{USER}@{rest}"
