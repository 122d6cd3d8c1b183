"""Every id that the registry holds of one kind, in short steps: no command sees more than a page of them."""

from collections.abc import AsyncIterator

from lapse.registry import keys
from lapse.registry.aio import Carrier

PAGE = 500
INDEXES = (keys.FRESH, keys.ACTIVE, keys.EXPLICIT)


async def registered(carrier: Carrier, namespace: str, provider: str, kind: str) -> AsyncIterator[str]:
    """Yield every tracked id, some perhaps twice: what moves from one index to another meanwhile is not left out."""
    slot = keys.slot(namespace, provider, kind)
    (policies,) = await carrier.run([("SMEMBERS", slot + keys.POLICIES)])
    for policy in sorted(name.decode() for name in policies):
        for index in INDEXES:
            async for id_ in _scan(carrier, "ZSCAN", f"{slot}{policy}:{index}"):
                yield id_
    async for id_ in _scan(carrier, "HSCAN", slot + keys.ASIDE):
        yield id_


async def _scan(carrier: Carrier, command: str, name: str) -> AsyncIterator[str]:
    cursor = "0"
    while True:
        ((at, flat),) = await carrier.run([(command, name, cursor, "COUNT", PAGE)])
        for id_ in flat[::2]:
            yield id_.decode()
        cursor = at.decode()
        if cursor == "0":
            return
