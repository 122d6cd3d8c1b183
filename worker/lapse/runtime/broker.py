"""Celery's way to Redis, as lapse needs it: whatever Redis refuses is an outage, and whatever is no message is dropped.

Kombu's own transport ends the worker by an answer that it does not know (a full disk's MISCONF, NOREPLICAS, NOPERM) and
by a queue's entry that it cannot read.
"""

from queue import Empty
from typing import Any, Self

import redis
import structlog
from kombu import transport
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from lapse.runtime import messages

PROBE = "writable"
"""What is deleted, and never there: whether Redis takes writes."""

log = structlog.get_logger("lapse")


class QoS(kombu_redis.QoS):
    """What is taken and not yet acknowledged."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; one that Redis keeps all the same comes again, and does no harm.

        Raised, that would leave the message in hand for ever: a worker that has all it may take takes nothing any more.
        """
        try:
            super().ack(delivery_tag)
        except (redis.RedisError, OSError) as error:
            log.warning("message.unacknowledged", error=str(error))
            virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's own
        """Put a message back whose worker is gone; drop what is none."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except (redis.RedisError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is that cannot be read
            _refuse(None, f"it cannot be put back: {type(error).__name__}")
            self._remove_from_indices(tag).execute()


class Channel(kombu_redis.Channel):
    """What a worker takes messages by."""

    QoS = QoS

    def _do_restore_message(self, payload: Any, *where: Any, **options: Any) -> None:
        if why := messages.refusal(payload):
            _refuse(payload, why)
        else:
            super()._do_restore_message(payload, *where, **options)

    def _brpop_read(self, **options: Any) -> bool:
        self.connection.delivering = False
        try:
            return bool(super()._brpop_read(**options))
        except (Empty, redis.RedisError, OSError):
            raise
        except Exception as error:
            if self.connection.delivering:
                raise
            _refuse(None, f"it cannot be read: {type(error).__name__}")
            return True


class Transport(kombu_redis.Transport):
    """Celery's way to Redis."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, redis.RedisError)
    delivering = False
    """True once an entry was read, and handed on or refused."""

    def establish_connection(self) -> Self:
        """Connect, to a Redis that takes writes: one that only answers is away like one that does not."""
        made: Self = super().establish_connection()
        try:
            with self._avail_channels[-1].conn_or_acquire() as client:
                client.delete(PROBE)
        except Exception:
            self.close_connection(self)
            raise
        return made

    def _deliver(self, message: Any, queue: str) -> None:
        self.delivering = True
        if why := messages.refusal(message):
            _refuse(message, why)  # it was taken out of the queue, and is nobody's any more
        else:
            super()._deliver(messages.received(message), queue)


def use() -> None:
    """Have Celery use this way for every URL of a Redis, in this process."""
    for scheme in ("redis", "rediss"):
        transport.TRANSPORT_ALIASES[scheme] = "lapse.runtime.broker:Transport"


def _refuse(message: object, why: str) -> None:
    log.error("message.refused", why=why, **messages.named(message))
