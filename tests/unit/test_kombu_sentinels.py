"""How kombu is told of Sentinels."""

import ssl

import pytest
import redis

from lapse.runtime.sentinels import kombu_sentinels

ASKED = {"socket_timeout": 5, "socket_connect_timeout": 5}
TLS = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca.pem"}
SECURED = "rediss+sentinel://u:p%40@a,b/main/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"


@pytest.mark.parametrize("url", ["redis://a:1/0", "unix:///s", "amqp://a", "redis+cluster://a,b"])
def test_other_urls_name_none(url: str) -> None:
    assert kombu_sentinels(url, 5) is None


@pytest.mark.parametrize(
    ("url", "own", "tls"),
    [
        ("redis+sentinel://u:p%40@a,b/main/0", {}, None),
        (
            "redis+sentinel://u:p%40@a,b/main/0?sentinel_username=s&sentinel_password=t",
            {"username": "s", "password": "t"},
            None,
        ),
        ("redis+sentinel://u:p%40@a,b/main/0?sentinel_tls=true", {"ssl": True}, None),
        (SECURED, {"ssl": True, **TLS}, TLS),
        (f"{SECURED}&sentinel_tls=false", {}, TLS),
    ],
    ids=["plain", "own login", "own tls", "tls", "tls of the servers alone"],
)
def test_what_a_url_says_is_said_in_kombus_words(url: str, own: dict[str, object], tls: object) -> None:
    made = kombu_sentinels(url, 5)

    assert made
    assert made.url == "sentinel://u:p%40@a:26379/0;sentinel://u:p%40@b:26379/0"
    assert made.options == {"master_name": "main", "sentinel_kwargs": {**ASKED, **own}}
    assert made.tls == tls


def test_their_password_may_be_somebody_elses_to_say() -> None:
    provider = redis.CredentialProvider()
    made = kombu_sentinels("redis+sentinel://u@a/main/0?sentinel_username=s", 5, provider)

    assert made
    assert made.options["sentinel_kwargs"] == {**ASKED, "credential_provider": provider}
