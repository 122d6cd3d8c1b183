"""The broker where a URL of lapse's names Sentinels: kombu has a spelling of its own for them, and options beside it.

Kombu's: docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.redis.html, SentinelChannel.
"""

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis import CredentialProvider

from lapse.registry.pools.address import SENTINEL, several

_REQUIRED = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


@dataclass(frozen=True, slots=True)
class KombuSentinels:
    """Sentinels as kombu takes them.

    Attributes:
        url: Each of them, parted by ``;``.
        options: Transport options: what they call the primary, and how they are spoken to themselves.
        tls: How the primary is spoken to by TLS; None: it is not.

    """

    url: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    tls: dict[str, Any] | None


def kombu_sentinels(url: str, timeout: float, provider: CredentialProvider | None = None) -> KombuSentinels | None:
    """Return how kombu is told of the Sentinels that a broker's URL names; None if it names none.

    Args:
        url: A broker's, checked.
        timeout: Seconds for one of them to answer.
        provider: What proves to them who asks; None: what the URL says.

    """
    target = several(url)
    if target is None or target.what != SENTINEL:
        return None
    each = [urlsplit(target.url(one)) for one in target.addresses]
    given = {name: value for name, value in parse_qsl(each[0].query) if name.startswith("ssl_")}
    tls = given | {"ssl_cert_reqs": _REQUIRED[given["ssl_cert_reqs"]]} if target.tls else {}
    login: dict[str, Any] = {name: value for name, value in target.sentinels.items() if name != "tls"}
    own = {"credential_provider": provider} if provider else login
    asked = {"socket_timeout": timeout, "socket_connect_timeout": timeout, **own}
    if target.sentinels_tls:
        asked |= {"ssl": True, **tls}
    return KombuSentinels(
        ";".join(one._replace(scheme=SENTINEL, query="").geturl() for one in each),
        {"master_name": target.service, "sentinel_kwargs": asked},
        tls or None,
    )
