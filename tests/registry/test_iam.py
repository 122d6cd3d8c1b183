"""Passwords of ElastiCache and MemoryDB: signed by botocore, and checked against the algorithm as AWS describes it."""

import hashlib
import hmac
import sys
from functools import reduce
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import redis

from lapse import ConfigError, IamCredentials, Registry
from lapse.sandbox.redis_server import EmbeddedRedis
from support.rotating import Issuer

ID, SECRET, SESSION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token=="


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", SESSION),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_CONFIG_FILE", str(tmp_path / "config")),
        ("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials")),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)


def signature(password: str, service: str, region: str) -> str:
    """Return what the signature has to be: docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html."""
    parts = urlsplit(f"https://{password}")
    said = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
    del said["X-Amz-Signature"]
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(said.items()))
    empty = hashlib.sha256(b"").hexdigest()
    request = f"GET\n/\n{query}\nhost:{parts.netloc}\n\nhost\n{empty}"
    at = said["X-Amz-Date"]
    scope = (at[:8], region, service, "aws4_request")
    text = f"AWS4-HMAC-SHA256\n{at}\n{'/'.join(scope)}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = reduce(lambda key, part: hmac.digest(key, part.encode(), "sha256"), scope, f"AWS4{SECRET}".encode())
    assert f"{ID}/{'/'.join(scope)}" == said["X-Amz-Credential"]
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize(
    ("made", "service", "region", "more"),
    [
        (IamCredentials("app", "Lapse"), "elasticache", "eu-west-1", {}),
        (
            IamCredentials("app", "lapse", region="us-east-2", serverless=True),
            "elasticache",
            "us-east-2",
            {"ResourceType": ["ServerlessCache"]},
        ),
        (IamCredentials("app", "lapse", service="memorydb"), "memorydb", "eu-west-1", {}),
    ],
    ids=["elasticache", "serverless", "memorydb"],
)
async def test_a_password_is_a_signed_request_to_connect(
    made: IamCredentials, service: str, region: str, more: dict[str, list[str]]
) -> None:
    for user, password in (made.get_credentials(), await made.get_credentials_async()):
        parts = urlsplit(f"https://{password}")
        said = parse_qs(parts.query)

        assert ("app", "lapse", "/") == (user, parts.netloc, parts.path)
        assert (["connect"], ["app"], ["900"], [SESSION]) == tuple(
            said[name] for name in ("Action", "User", "X-Amz-Expires", "X-Amz-Security-Token")
        )
        assert more == {name: said[name] for name in ("ResourceType",) if name in said}
        assert [signature(password, service, region)] == said["X-Amz-Signature"]
    assert 12 * 3600 == made.connection_lifetime


def test_a_server_takes_it_as_it_is(clean_environment: None) -> None:
    said = IamCredentials("app", "lapse").get_credentials()
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", "~*", "&*", "+@all", f">{said[1]}")
        with Registry(server.url, provider="openai", timeout=5, credential_provider=Issuer(said)) as registry:
            assert registry.register("thread", "t1", "chat").new


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(ConfigError, match="no region: give it, or set AWS_REGION"):
        IamCredentials("app", "lapse").get_credentials()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="no AWS credentials"):
        IamCredentials("app", "lapse").get_credentials()
    for wrong in ({"service": "redis"}, {"service": "memorydb", "serverless": True}):
        with pytest.raises(ConfigError, match="there is elasticache and memorydb"):
            IamCredentials("app", "lapse", **wrong)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ConfigError, match=r"pip install 'PATH/TO/lapse\[redis-iam\]'"):
        IamCredentials("app", "lapse")
