"""What a namespace holds, key by key, read from Redis and by none of lapse's own means."""

from collections.abc import Callable
from typing import Any

from lapse.registry import keys

_READ: dict[str, Callable[[Any, str], Any]] = {
    "zset": lambda client, name: dict(client.zrange(name, 0, -1, withscores=True)),
    "hash": lambda client, name: client.hgetall(name),
    "set": lambda client, name: client.smembers(name),
    "stream": lambda client, name: (client.xrange(name), client.xinfo_stream(name)["last-generated-id"]),
    "string": lambda client, name: client.get(name),
}
_OF_A_MOVE = ("moved", "importing", "imported|", "stamp|", "sequence")


def held(client: Any, namespace: str) -> dict[str, Any]:
    """Return everything that an import has to bring, by its name without the namespace.

    Of leases only whose they are; tokens and sequences, which go on, and what says where the registry came from are
    left out.
    """
    found: dict[str, Any] = {}
    for name in client.scan_iter(f"{namespace}:*"):
        key = name.removeprefix(f"{namespace}:")
        if not any(part in keys.LEFT_OUT for part in key.rpartition("}:")[2].split(":")):
            found[key] = _READ[client.type(name)](client, name)
    for key in [key for key in found if key.endswith(":claims")]:
        found[key] = set(found[key])
    for key in [key for key in found if key.endswith(":marks")]:
        found[key].pop("fence", None)
    epoch = found.get("epoch", {})
    found["epoch"] = {name: value for name, value in epoch.items() if not name.startswith(_OF_A_MOVE)}
    return found
