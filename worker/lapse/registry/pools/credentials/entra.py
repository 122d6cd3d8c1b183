"""Entra tokens for Azure's Redis: the only module that imports redis_entraid.

It finds the credential by azure-identity, as every Azure program does, and the user is the token's ``oid``:
learn.microsoft.com/azure/redis/entra-for-authentication.
"""

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import redis

from lapse.errors import ConfigError

INSTALL = "pip install 'PATH/TO/lapse[redis-entra]'"
SCOPE = "https://redis.azure.com/.default"

log = logging.getLogger("lapse")


class RedisEntraCredentials(redis.CredentialProvider):
    """Whom Azure takes this process for, as redis-py's provider of credentials.

    redis-entraid renews tokens on a thread of its own, which no fork survives: each process has another one, made when
    it connects first.

    Raises:
        ConfigError: redis-entraid is missing; the text names the line that installs it.

    """

    def __init__(self) -> None:
        if find_spec("redis_entraid") is None:
            raise ConfigError(f'auth = "entra" of a Redis needs redis-entraid, which is not installed: {INSTALL}')
        self._made: tuple[int, Any] = (0, None)

    def get_credentials(self) -> tuple[str, str]:
        """Return the user and a token that is good for a while."""
        # By itself redis-entraid would renew it on the event loop of this thread, and wait for that right here.
        with ThreadPoolExecutor(1, "lapse-entra") as apart:
            user, token = apart.submit(self._own().get_credentials).result()
        return str(user), str(token)

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same; whoever issues tokens is asked on a thread."""
        return await asyncio.to_thread(self.get_credentials)

    def _own(self) -> Any:
        """Return this process' own provider."""
        pid, made = self._made
        if pid != os.getpid():
            from redis_entraid.cred_provider import create_from_default_azure_credential  # noqa: PLC0415 - an extra

            made = create_from_default_azure_credential((SCOPE,))
            made.on_next(_renewed)
            made.on_error(partial(log.warning, "redis: no new Entra token: %s"))
            self._made = (os.getpid(), made)
        return made


def _renewed(_token: object) -> None:
    """Do nothing: connections are replaced before their token ends, and ask for the next one then."""
