"""Which way leads to an account: what the file says, and the environment where the file leaves it to that."""

import base64
from dataclasses import replace

import pytest

from lapse.errors import ConfigError
from lapse.providers.account import Account
from lapse.providers.route import Route, exposes, is_loopback, parse, route_to

HTTPS, HTTP = "https://llm.example.com/v1", "http://127.0.0.1:8000/v1"
PROXY = "http://proxy.example.com:3128"


def route(proxy: str | None = None, base_url: str = HTTPS, *, ca_file: str | None = None, **environ: str) -> Route:
    """Return the route of an account with these settings."""
    return route_to(account(proxy, base_url, ca_file=ca_file), environ)


def account(proxy: str | None, base_url: str, *, ca_file: str | None = None, plaintext: bool = False) -> Account:
    given = Account("main", "openai", base_url, "KEY", None, None, None, 16, (), None, None, None, plaintext)
    return replace(given, proxy=proxy, ca_file=ca_file)


def test_without_a_word_of_the_file_it_is_straight() -> None:
    assert Route("main") == route()
    ignored = "directly (https_proxy is set, and not followed: proxy is off)"
    assert Route("main", ignored) == route(https_proxy=PROXY)
    assert "directly, trusting /ca.pem alone" == route(ca_file="/ca.pem").told


def test_a_proxy_of_the_file_is_used_whatever_the_environment_says() -> None:
    made = route(PROXY, NO_PROXY="*", HTTPS_PROXY="http://other:1", ca_file="/ca.pem")
    assert made.proxy
    assert (PROXY, f"through {PROXY}, trusting /ca.pem alone") == (made.proxy.url, made.told)


@pytest.mark.parametrize(
    ("base_url", "environ", "told"),
    [
        (HTTPS, {"HTTPS_PROXY": PROXY}, f"through {PROXY} (HTTPS_PROXY)"),
        (HTTPS, {"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, f"through {PROXY} (https_proxy)"),
        (HTTPS, {"https_proxy": " ", "ALL_PROXY": "proxy.example.com:3128"}, f"through {PROXY} (ALL_PROXY)"),
        (HTTPS, {"HTTP_PROXY": PROXY}, "directly (HTTPS_PROXY is not set)"),
        (HTTP, {"http_proxy": "http://[::1]:8"}, "through http://[::1]:8 (http_proxy)"),
        (HTTP, {}, "directly (HTTP_PROXY is not set)"),
    ],
)
def test_the_environment_is_asked_as_curl_asks_it(base_url: str, environ: dict[str, str], told: str) -> None:
    assert told == route("env", base_url, **environ).told


@pytest.mark.parametrize(
    ("base_url", "said", "excepted"),
    [
        (HTTPS, "*", True),
        (HTTPS, "other.com, EXAMPLE.com", True),
        (HTTPS, ".example.com", True),
        (HTTPS, "*.example.com", True),
        (HTTPS, "llm.example.com:443", True),
        (HTTPS, "llm.example.com:8443", False),
        (HTTPS, "ample.com lm.example.com", False),
        (HTTPS, "10.0.0.0/8,,.", False),
        ("https://llm.example.com.:8443/v1", "llm.example.com:8443", True),
        ("https://10.1.2.3/v1", "10.0.0.0/8", True),
        ("https://10.1.2.3/v1", "10.1.2.3", True),
        ("https://10.1.2.3/v1", "11.0.0.0/8,10.1.2", False),
        ("https://[fd00::1]/v1", "[fd00::1]:443", True),
        ("https://[fd00::1]/v1", "fd00::/8", True),
        ("https://[fd00::1]/v1", "10.0.0.0/8", False),
    ],
)
def test_no_proxy_excepts_names_domains_addresses_and_networks(base_url: str, said: str, excepted: bool) -> None:
    made = route("env", base_url, HTTPS_PROXY=PROXY, NO_PROXY=said)
    assert excepted is (made.proxy is None)
    assert excepted is (made.told == "directly (NO_PROXY excepts it from HTTPS_PROXY)")


def test_credentials_are_in_what_is_sent_and_in_nothing_that_is_shown() -> None:
    made = parse("http://us%40er:p%C3%A4ss@proxy:8080/")
    encoded = base64.b64encode("us@er:päss".encode()).decode()
    assert ("http://proxy:8080", f"Basic {encoded}", ("päss", encoded)) == (made.url, made.authorization, made.secrets)
    assert not any(word in repr(made) for word in ("päss", "p%C3", encoded))
    assert "a-token" == parse("http://a-token@proxy:1").secrets[0]
    assert ("", ()) == (parse(PROXY).authorization, parse(PROXY).secrets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not an HTTP proxy: write it as http://HOST:3128"),
        ("proxy", "is not an HTTP proxy"),
        ("http://proxy", "is not an HTTP proxy"),
        ("http://hunter2@:1", "is not an HTTP proxy"),
        ("http://hunter2@proxy:0", "is not an HTTP proxy"),
        ("http://hunter2@proxy:99999", "is not an HTTP proxy"),
        ("http://hunter2@[::1:1", "is not an HTTP proxy"),
        ("socks5://hunter2@proxy:1080", "is not an HTTP proxy"),
        ("https://hunter2@proxy:1080", "is not an HTTP proxy"),
        ("http://hunter2 @proxy:1", "is not an HTTP proxy"),
        ("http://hunter2@proxy:1/path", "has more than a host and a port"),
        ("http://hunter2@proxy:1?x=1", "has more than a host and a port"),
        ("http://hunter2@proxy:1/#x", "has more than a host and a port"),
    ],
)
def test_what_is_no_proxy_is_refused_and_not_repeated(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)


def test_a_variable_that_names_no_http_proxy_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r'\[providers.main] proxy = "env": ALL_PROXY is not an HTTP proxy'):
        route("env", ALL_PROXY="socks5://hunter2@proxy:1080")


def test_a_key_does_not_leave_this_machine_readable_by_way_of_a_proxy() -> None:
    with pytest.raises(ConfigError, match=r"\[providers.main] proxy: would send the key readable"):
        route("env", HTTP, http_proxy=PROXY)
    assert route("http://localhost:3128", HTTP).proxy
    assert route_to(account(PROXY, HTTP, plaintext=True), {}).proxy
    assert not exposes(HTTPS, parse(PROXY))


def test_what_is_this_machine() -> None:
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "::1"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "localhost.example.com", ""))
