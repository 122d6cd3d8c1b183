"""The users that deploy/redis/lapse.conf ships, on a server of the tests. The default user stays, as administrator."""

import re
import subprocess
from pathlib import Path

from lapse.sandbox.redis_server import server_binary

REDIS = Path(__file__).parents[2] / "deploy" / "redis"
SHIPPED, SHIPPED_62 = REDIS / "lapse.conf", REDIS / "lapse-6.2.conf"
SHIPPED_CLUSTER = REDIS / "lapse-cluster.conf"
APPLICATION, WORKER = "lapse-application", "lapse-worker"
REPLICA, SENTINEL = "lapse-replica", "lapse-sentinel"


def password(user: str) -> str:
    """Return a user's password on a server of the tests."""
    return f"pw-of-{user}-0123456789"


def options(directory: Path, shipped: Path = SHIPPED) -> tuple[str, ...]:
    """Return what makes a server know the users; the lines go into a file below ``directory``."""
    text = shipped.read_text(encoding="utf-8").replace("user default off\n", "")
    for user in (REPLICA, SENTINEL):
        text = text.replace(f"# user {user} ", f"user {user} ")  # as the file says of servers with replicas
    for user in (APPLICATION, WORKER, REPLICA, SENTINEL):
        text = text.replace(f">CHANGE-ME-{user.removeprefix('lapse-')}", f">{password(user)}")
    text = text.replace("appendonly yes\n", "")  # what a test asks for
    if not _knows_setinfo():
        text = text.replace("+client|setinfo ", "")  # as the file says
    file = directory / "lapse.conf"
    file.write_text(text, encoding="utf-8")
    return ("--include", str(file))


def as_user(url: str, user: str) -> str:
    """Return a server's URL with a user's name and password."""
    return url.replace("://", f"://{user}:{password(user)}@", 1)


def _knows_setinfo() -> bool:
    """Return True from Redis 7.2 on, and for Valkey."""
    shown = subprocess.run([server_binary(), "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)", shown)
    return version is None or (int(version[1]), int(version[2])) >= (7, 2)
