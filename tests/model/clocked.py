"""The real scripts on a real Redis, with a clock that a test moves: nothing else of them is changed."""

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import redis

from lapse.ledger.partition import Ledger
from lapse.registry.commands import Commands, Operation
from lapse.registry.protocol import Conversation
from lapse.registry.scripts import Call

if TYPE_CHECKING:
    from lapse.registry.aio import Carrier

T = TypeVar("T")

CLOCK = "test:clock"
TIME = "redis.call('TIME')"
SET_TIME = f"redis.call('LRANGE', '{CLOCK}', 0, 1)"


class Clocked:
    """Carries calls as a Carrier does, each at the time that was set."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self.commands = Commands("lapse", "openai")
        self.ledger = Ledger(cast("Carrier", self), "lapse", "worker-1", max_pending=1_000_000)

    def set(self, millis: int) -> None:
        """Set the clock to registry milliseconds."""
        self._client.delete(CLOCK)
        self._client.rpush(CLOCK, millis // 1000, millis % 1000 * 1000)

    async def carry(self, calls: Sequence[Call[Any]]) -> list[Any]:
        """Run each call's script with the clock that is set."""
        return [call.parse(self._eval(call)) for call in calls]

    carry_lasting = carry

    async def run(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run plain commands, replies as they come over the wire."""
        connection = self._client.connection_pool.get_connection()
        try:
            return [connection.send_command(*command) or connection.read_response() for command in commands]
        finally:
            self._client.connection_pool.release(connection)

    async def write(self, *commands: Sequence[Any]) -> list[Any]:
        """Run plain writes."""
        return await self.run(commands)

    async def say(self, conversation: Conversation[T]) -> T:
        """Carry a conversation to its end, by the clock of Redis itself."""
        connection = self._client.connection_pool.get_connection()
        try:
            commands: Any = next(conversation)
            while True:
                connection.send_packed_command(commands)
                commands = conversation.send([_reply(connection) for _ in commands])
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            self._client.connection_pool.release(connection)

    def answer(self, operation: Operation[T]) -> T:
        """Run what an application says."""
        return operation.finish([call.parse(self._eval(call)) for call in operation.calls])

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that never has to wait."""
        try:
            work.send(None)
        except StopIteration as done:
            return cast("T", done.value)
        raise RuntimeError("it waits for something")

    def _eval(self, call: Call[Any]) -> Any:
        assert TIME in call.script.text
        return self._client.eval(call.script.text.replace(TIME, SET_TIME), 1, call.key, *call.args)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error
