"""A sweep's real parts, for runs in which one guard is taken out."""

import hashlib
from collections.abc import Callable

import pytest

from lapse.registry import scripts
from support.commandline import desk
from support.sandbox_fixture import sandbox, sandbox_server
from support.world import World, world

__all__ = ["desk", "sandbox", "sandbox_server", "world"]


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Return a way to run a script with a part of its text replaced."""
    original = scripts.script
    changes: list[tuple[str, str, str]] = []

    def script(path: str) -> scripts.Script:
        made = original(path)
        name, text = made.name, made.text
        for where, old, new in changes:
            if where == name:
                assert old in text, f"{name}.lua has no {old!r} any more"
                text = text.replace(old, new)
        return scripts.Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    for user in (
        "lapse.registry.commands",
        "lapse.providers.throttle",
        "lapse.runtime.jobs",
        "lapse.guards.integrity.monitor",
    ):
        monkeypatch.setattr(f"{user}.script", script)
    return lambda name, old, new: changes.append((name, old, new))


@pytest.fixture
def reported(world: World) -> Callable[[], set[str]]:
    """Return what the oracle finds wrong so far; it is not looked at again when the test is over."""

    def report() -> set[str]:
        found = {one.promise for one in world.judge()}
        world.unpromised = world.unpromised | found
        return found

    return report
