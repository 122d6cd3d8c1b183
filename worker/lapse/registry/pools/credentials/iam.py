"""IAM authentication of ElastiCache and MemoryDB: the only module that imports botocore.

A password is a request of the action ``connect`` that is signed and not sent, good for 15 minutes; what was opened with
it is closed after 12 hours: docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html, and MemoryDB's.
"""

import asyncio
import os
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlencode

import redis

from lapse.errors import ConfigError

INSTALL = "pip install 'PATH/TO/lapse[redis-iam]'"
SERVICES = ("elasticache", "memorydb")
VALID = 900
"""Seconds within which a password has to be used."""


class IamCredentials(redis.CredentialProvider):
    """Whom AWS takes this process for, as redis-py's provider of credentials.

    botocore finds the credentials as every AWS program does: the environment, a profile, the role of a container.

    Args:
        user: The user of the cache; in AWS its name is its id.
        cache: The name of the replication group, of the serverless cache, or of MemoryDB's cluster.
        region: Where it is; else as botocore finds it.
        service: ``"elasticache"`` or ``"memorydb"``.
        serverless: Whether it is a serverless cache.

    Attributes:
        connection_lifetime: Seconds after which the server closes a connection.

    Raises:
        ConfigError: botocore is missing; the text names the line that installs it. Or another service, or no region.

    """

    connection_lifetime = 12 * 3600.0

    def __init__(
        self,
        user: str,
        cache: str,
        *,
        region: str | None = None,
        service: str = "elasticache",
        serverless: bool = False,
    ) -> None:
        if find_spec("botocore") is None:
            raise ConfigError(f'auth = "iam" of a Redis needs botocore, which is not installed: {INSTALL}')
        if service not in SERVICES or (serverless and service != SERVICES[0]):
            raise ConfigError(f"service={service!r}: there is {' and '.join(SERVICES)}; serverless is ElastiCache's")
        query = {"Action": "connect", "User": user} | ({"ResourceType": "ServerlessCache"} if serverless else {})
        self._request = f"https://{cache.lower()}/?{urlencode(query)}"
        self._user = user
        self._service = service
        self._region = region
        self._made: tuple[int, Any] = (0, None)

    def get_credentials(self) -> tuple[str, str]:
        """Return the user, and a password that is good for 15 minutes.

        Raises:
            ConfigError: botocore finds no credentials, or no region.

        """
        request = {"method": "GET", "url": self._request, "body": {}, "headers": {}, "context": {}}
        signed = self._signer().generate_presigned_url(request, operation_name="connect", expires_in=VALID)
        return self._user, signed.removeprefix("https://")

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return the same; where the credentials come from is asked on a thread."""
        return await asyncio.to_thread(self.get_credentials)

    def _signer(self) -> Any:
        from botocore.model import ServiceId  # noqa: PLC0415 - an extra
        from botocore.signers import RequestSigner  # noqa: PLC0415 - as above

        session = self._session()
        found = session.get_credentials()
        region = self._region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
        if found is None or not region:
            missing = "no region: give it, or set AWS_REGION" if found else "no AWS credentials here"
            raise ConfigError(f'auth = "iam" of a Redis: botocore finds {missing}')
        events = session.get_component("event_emitter")
        return RequestSigner(ServiceId(self._service), region, self._service, "v4", found, events)

    def _session(self) -> Any:
        """Return this process' own session, which keeps credentials until they have to be renewed."""
        pid, made = self._made
        if pid != os.getpid():
            import botocore.session  # noqa: PLC0415 - an extra

            made = botocore.session.get_session()
            self._made = (os.getpid(), made)
        return made
