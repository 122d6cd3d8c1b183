"""URLs of more than one server."""

import pytest

from lapse.errors import ConfigError
from lapse.registry.connection import database
from lapse.registry.pools.address import Node, several


def test_a_cluster_is_reached_by_each_of_its_nodes() -> None:
    found = several("rediss+cluster://app:p%40w@a:7001,b,[::1]:7003/0?ssl_ca_certs=%2Fca.pem")

    assert found
    assert ("cluster", True, 0) == (found.what, found.tls, found.database)
    assert (Node("a", 7001), Node("b", 6379), Node("::1", 7003)) == found.addresses
    assert "rediss://app:p%40w@[::1]:7003/0?ssl_ca_certs=%2Fca.pem" == found.url(found.addresses[2])
    assert "rediss://app:p%40w@a:7001/0?ssl_ca_certs=%2Fca.pem" == found.url(found.addresses[0])


def test_sentinels_have_a_password_of_their_own() -> None:
    found = several("redis+sentinel://app:pw@a,b:26380/mymaster/3?sentinel_password=s%2Fp&sentinel_tls=true")

    assert found
    assert ("sentinel", False, 3, "mymaster") == (found.what, found.tls, found.database, found.service)
    assert (Node("a", 26379), Node("b", 26380)) == found.addresses
    assert {"password": "s/p", "tls": "true"} == found.sentinels
    assert "redis://app:pw@a:26379/3" == found.url(found.addresses[0])


@pytest.mark.parametrize("url", ["redis+sentinel://a/mymaster", "redis+sentinel://a/mymaster/"])
def test_a_database_may_be_left_out(url: str) -> None:
    found = several(url)

    assert found
    assert ("mymaster", 0) == (found.service, found.database)
    assert 0 == database(url)


def test_a_database_may_stand_behind_the_question_mark() -> None:
    found = several("redis+sentinel://a/mymaster?db=3")

    assert found
    assert ("mymaster", 3, "redis://a:26379/3?db=3") == (found.service, found.database, found.url(found.addresses[0]))


@pytest.mark.parametrize("url", ["redis://a:6379/0", "unix:///run/redis.sock", "redis+socket:///run/redis.sock", "x"])
def test_other_urls_are_of_one_server(url: str) -> None:
    assert several(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://a/3", "names database 3: a cluster has only 0"),
        ("redis+cluster://a?db=3", "names database 3: a cluster has only 0"),
        ("redis+cluster://a?db=three", "a database that is not a number: 'three'"),
        ("redis+cluster://a/x", "a database that is not a number: 'x'"),
        ("redis+cluster://", "names no host where it should: ''"),
        ("redis+cluster://u:hidden@a,,b", "names no host where it should: ''"),
        ("redis+cluster://u:hidden@a:port", "names no host where it should: 'a:port'"),
        ("redis+cluster://u:hidden@[::1:7001", r"names no host where it should: '\[::1:7001'"),
        ("redis+sentinel://u:hidden@a", "names no primary: write it as redis[+]sentinel://HOST:26379,HOST/NAME/0"),
        ("redis+sentinel://a/mymaster/x", "a database that is not a number: 'x'"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_its_password(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        several(url)

    assert "hidden" not in str(refused.value)
