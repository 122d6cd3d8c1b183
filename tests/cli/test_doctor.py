"""lapse doctor: each thing it looks at, well and broken."""

import json
import time
from typing import Any

import pytest
import redis

from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.commandline import CHAT, ENFORCED, HEAD, Desk
from support.forward_proxy import ForwardProxy

CONVERSATIONS = CHAT.replace('["conversation", "thread"]', '"conversation"')


def findings(desk: Desk, code: int, *options: str, **environ: str) -> dict[str, dict[str, str]]:
    shown = desk.run("doctor", "--json", *options, **environ)
    assert code == shown.code, shown
    return {one["name"]: one for one in shown.json["findings"]}


def ticking(desk: Desk) -> None:
    """Let beat and a worker have been there a moment ago."""
    now = str(round(time.time() * 1000))
    desk.raw.hset("lapse:published", mapping={"beat": now, "tick": now})
    desk.worker()


def test_all_that_is_looked_at_is_said_and_nothing_is_changed(desk: Desk) -> None:
    ticking(desk)
    before = stored(desk)
    shown = desk.good("doctor")
    assert before == stored(desk)
    names = [line.split(":")[0].split(maxsplit=1)[1] for line in shown.lines if not line.startswith("  ")]
    assert [
        "config",
        "outbox",
        "spool",
        "version",
        "eviction",
        "persistence",
        "replication",
        "clock",
        "clock_pace",
        "acl",
        "broker",
        "celery_transport",
        "beat",
        "wake_up",
        "workers",
        "sweeps",
        "audit",
        "erasures",
        "provider openai",
    ] == names
    assert {"ok", "warn"} == {line.split()[0] for line in shown.lines if not line.startswith("  ")}
    assert "warn    persistence: the server persists nothing" in shown.out
    assert "        -> set appendonly yes" in shown.lines
    assert [("GET", "/v1/assistants?limit=1")] == [(one["method"], one["path"]) for one in asked(desk)]


def stored(desk: Desk) -> dict[Any, Any]:
    """Return what is stored, but for the request that doctor itself sends and counts."""
    counted = ("flow", "counters", "batch")
    return {key: value for key, value in desk.stored().items() if not any(word in key for word in counted)}


def asked(desk: Desk) -> list[dict[str, Any]]:
    return [
        {**one, "path": one["path"] + (f"?{one['query']}" if one.get("query") else "")}
        for one in desk.sandbox.requests()
    ]


def test_the_one_request_is_counted_and_within_the_budget(desk: Desk) -> None:
    findings(desk, 5)
    counters: Any = desk.raw.hgetall("lapse:{openai:thread}:counters")
    assert 1 == sum(int(n) for name, n in counters.items() if name.startswith("requests||"))


def test_a_kind_without_a_probe_is_asked_for_the_newest_id_of_the_registry(desk: Desk) -> None:
    desk.configure(CONVERSATIONS)
    assert "knows of no conversation that does not exist" in findings(desk, 5)["provider openai"]["detail"]
    (id_,) = desk.seed(1, kind="conversation")
    assert "reads the newest conversation" in findings(desk, 5)["provider openai"]["detail"]
    desk.registry.register("conversation", "conv_elsewhere", "chat")
    found = findings(desk, 5)["provider openai"]
    assert ("warn", True) == (found["level"], "conv_elsewhere" in found["detail"])
    assert {"GET"} == {one["method"] for one in desk.sandbox.requests()}
    assert {id_} == desk.sandbox.alive("conversation")


@pytest.mark.parametrize(
    ("fault", "level", "fix"),
    [
        ({"effect": "error", "status": 401}, "fail", "look at the key"),
        ({"effect": "error", "status": 403}, "fail", "look at the key"),
        ({"effect": "error", "status": 404}, "fail", "this endpoint is not there"),
        ({"effect": "error", "status": 500}, "warn", "status page"),
        ({"effect": "error", "status": 429}, "warn", "lower rate"),
        ({"effect": "reset"}, "fail", "look at base_url"),
    ],
)
def test_what_a_provider_answers(desk: Desk, fault: dict[str, Any], level: str, fix: str) -> None:
    desk.sandbox.faults([{"method": "GET", **fault}])
    found = findings(desk, 5)["provider openai"]
    assert level == found["level"]
    assert fix in found["fix"]


def test_an_account_without_its_key_is_found(desk: Desk) -> None:
    found = findings(desk, 5, OPENAI_API_KEY="")["provider openai"]
    assert ("fail", True) == (found["level"], "OPENAI_API_KEY holds no key" in found["detail"])
    assert [] == desk.sandbox.requests()


def test_a_redis_that_is_away_is_said_and_providers_are_asked_all_the_same(desk: Desk) -> None:
    found = findings(desk, 4, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert ["config", "outbox", "spool", "server", "provider openai"] == list(found)
    assert ("fail", "ok") == (found["server"]["level"], found["provider openai"]["level"])


def test_a_config_that_is_wrong_is_a_finding_too(desk: Desk) -> None:
    desk.configure("[policies.chat]\n")
    found = findings(desk, 2)["config"]
    assert ("fail", True) == (found["level"], "retention.toml" in found["detail"])


def test_a_server_that_evicts_or_forgets_fails_and_says_the_fix(desk: Desk) -> None:
    desk.configure(ENFORCED, head=HEAD.replace("allow_volatile = true", ""))
    with EmbeddedRedis("--maxmemory-policy", "allkeys-lru") as server:
        found = findings(desk, 5, REDIS_URL=server.url)
    assert ("fail", "fail") == (found["eviction"]["level"], found["persistence"]["level"])
    assert "noeviction" in found["eviction"]["fix"]
    assert "evicts by allkeys-lru" in found["broker"]["detail"]
    with EmbeddedRedis(persistent=True) as server:
        assert "ok" == findings(desk, 5, REDIS_URL=server.url)["persistence"]["level"]


def test_a_user_that_may_do_too_much_is_told_from_one_that_may_not(desk: Desk) -> None:
    assert "log in without a password" in findings(desk, 5)["acl"]["detail"]
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as admin:
        rights = ("~lapse:*", "+@all", "-@dangerous", "-@admin", "+info", "-acl", "+acl|whoami")
        admin.execute_command("ACL", "SETUSER", "tight", "on", ">secret-of-mine", *rights)
        admin.execute_command("ACL", "SETUSER", "loose", "on", ">secret-of-mine", *rights, "+config", "+slowlog")
        for user, level in (("tight", "ok"), ("loose", "warn")):
            found = findings(desk, 5, REDIS_URL=server.url.replace("://", f"://{user}:secret-of-mine@"))
            assert level == found["acl"]["level"], found
            assert user in found["acl"]["detail"]
            assert "secret-of-mine" not in json.dumps(found)


def test_beat_and_workers_that_are_silent_fail(desk: Desk) -> None:
    found = findings(desk, 5)
    assert {"fail"} == {found[name]["level"] for name in ("beat", "wake_up", "workers")}
    assert all(found[name]["fix"] for name in ("beat", "wake_up", "workers"))


def test_workers_with_another_version_of_the_config_are_named(desk: Desk) -> None:
    ticking(desk)
    assert "all with this version" in findings(desk, 0)["workers"]["detail"]
    desk.configure(CHAT.replace("7d", "8d"))
    found = findings(desk, 0)["workers"]
    assert "warn" == found["level"]
    assert "with another version of the config" in found["detail"]


def test_an_observing_policy_with_due_ids_is_not_well(desk: Desk) -> None:
    ticking(desk)
    assert "policy openai/thread/chat" not in findings(desk, 0)
    desk.seed(2)
    desk.seed(1, days=1)
    found = findings(desk, 0)["policy openai/thread/chat"]
    assert ("warn", "2 of 3 ids are due, and it only observes: nothing deletes them") == (
        found["level"],
        found["detail"],
    )
    desk.configure(ENFORCED)
    assert "policy openai/thread/chat" not in findings(desk, 0)


def test_a_broker_of_its_own_is_looked_at(desk: Desk) -> None:
    away = f"redis://:hidden-word@127.0.0.1:{free_port()}/1"
    found = findings(desk, 4, CELERY_BROKER_URL=away)
    assert ("fail", True) == (found["broker"]["level"], "CELERY_BROKER_URL" in found["broker"]["detail"])
    assert "hidden-word" not in json.dumps(found)
    with EmbeddedRedis() as server:
        found = findings(desk, 5, CELERY_BROKER_URL=server.url)
        refused = desk.run("doctor", CELERY_BROKER_URL=f"{server.url}?socket_timeout=1")
    assert ("ok", "ok") == (found["broker"]["level"], found["celery_transport"]["level"])
    assert 'CELERY_BROKER_URL: has "socket_timeout" behind its' in refused.out + refused.err
    assert "Traceback" not in refused.err


def test_it_says_how_a_provider_is_reached(desk: Desk) -> None:
    with ForwardProxy("lapse:hidden-word") as proxy:
        desk.configure(CHAT, rate='"unlimited"\nproxy = "env"')
        shown = desk.run("doctor", HTTP_PROXY=proxy.url, NO_PROXY="example.com")
        assert f" ms, through http://{proxy.host} (HTTP_PROXY)" in shown.out
        assert "hidden-word" not in shown.out + shown.err
        assert [f"GET {desk.sandbox.url}/assistants?limit=1"] == proxy.targets
    found = findings(desk, 5, HTTP_PROXY=proxy.url)["provider openai"]
    assert f"the proxy: Cannot connect to host {proxy.host}" in found["detail"]
    assert found["detail"].endswith(f", through http://{proxy.host} (HTTP_PROXY)")
    assert "look at base_url, proxy" in found["fix"]


def test_one_provider_of_several(desk: Desk) -> None:
    second = '[providers.second]\ntype = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "OPENAI_API_KEY"\n'
    desk.configure(second + CHAT + 'provider = "openai"\n')
    found = findings(desk, 5)
    assert ("ok", "fail") == (found["provider openai"]["level"], found["provider second"]["level"])
    assert found["provider openai"]["detail"].endswith(" ms, directly")
    assert "provider second" not in findings(desk, 5, "--provider", "openai")
    assert "it has openai, second" in findings(desk, 2, "--provider", "third")["config"]["detail"]
