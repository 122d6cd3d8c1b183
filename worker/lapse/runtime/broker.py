"""Celery's way to its broker. To a Redis as lapse needs it: a refusal is an outage, and what is no message is dropped.

Kombu's own transport to Redis ends the worker by an answer that it does not know (a full disk's MISCONF, NOREPLICAS,
NOPERM) and by a queue's entry that it cannot read.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from queue import Empty
from typing import Any, Self

import redis
import structlog
from kombu import transport
from kombu.connection import Connection
from kombu.exceptions import KombuError
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from lapse.errors import ConfigError
from lapse.policy.reload import SENTINEL, Source, is_redis
from lapse.registry.pools.credentials.renewing import over, proving
from lapse.runtime import messages
from lapse.runtime.celery_config import CREDENTIALS, MESSAGE_WAIT

PROBE = "writable"
"""What is deleted, and never there: whether Redis takes writes."""

AGAIN_WITHIN = 5.0
"""Seconds at most between two attempts to connect."""

log = structlog.get_logger("lapse")


class QoS(kombu_redis.QoS):
    """What is taken and not yet acknowledged."""

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        """Give a pipeline without a transaction: what is half written is a message less, or a few bytes more."""
        if pipe:
            yield pipe
            return
        with self.channel.conn_or_acquire(client) as connected:
            yield connected.pipeline(transaction=False)

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
    from_transport_options = (*kombu_redis.Channel.from_transport_options, CREDENTIALS)  # type: ignore[assignment]
    credential_provider: redis.CredentialProvider | None = None

    def __init__(self, *given: Any, **said: Any) -> None:
        super().__init__(*given, **said)
        if self.credential_provider:
            self.brpop_timeout = 1  # between two questions a connection is replaced whose credentials end

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's own
        given: dict[str, Any] = super()._connparams(asynchronous)
        made, given = proving(given.pop("connection_class"), given, self.credential_provider)
        return given | {"connection_class": made}

    def _do_restore_message(self, payload: Any, *where: Any, **options: Any) -> None:
        if why := messages.refusal(payload):
            _refuse(payload, why)
        else:
            super()._do_restore_message(payload, *where, **options)

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return bool(self._size(queue))  # kombu's own looks for it without the prefix

    def _brpop_read(self, **options: Any) -> bool:
        try:
            return self._read(**options)
        finally:
            if over(self.client.connection):  # between two questions nothing is lost by that
                self.client.connection.disconnect()

    def _read(self, **options: Any) -> bool:
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
    brpop_timeout = MESSAGE_WAIT
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


class SentinelChannel(Channel, kombu_redis.SentinelChannel):
    """The same to the primary that a sentinel names."""

    from_transport_options = (*kombu_redis.SentinelChannel.from_transport_options, CREDENTIALS)  # type: ignore[assignment]


class SentinelTransport(Transport, kombu_redis.SentinelTransport):
    """The same to the primary that a sentinel names."""

    Channel = SentinelChannel


def demand(source: Source, options: Mapping[str, Any]) -> None:
    """Return if kombu can carry messages by a broker, with these transport options.

    Raises:
        ConfigError: it does not know the scheme, or something that it needs is missing.

    """
    scheme = source.url.partition("://")[0]
    if is_redis(source.url):
        return
    if scheme == SENTINEL and not options.get("master_name"):
        where = "[celery] broker_transport_options = { master_name = ... }"
        raise ConfigError(f"{source.origin}: which primary do these sentinels watch? Write {where}")
    if scheme == "sqs" and find_spec("boto3") is None:  # kombu finds that out when it sends the first message
        raise ConfigError(f"{source.origin}: sqs:// needs a library: boto3")
    try:
        _ = Connection(source.url).transport  # made when it is asked for
    except KeyError:
        raise ConfigError(f"{source.origin}: Celery's kombu knows no broker {scheme}://") from None
    except ImportError as error:
        raise ConfigError(f"{source.origin}: {scheme}:// needs a library: {error}") from None


def waiting(made: Mapping[str, Any], timeout: float) -> int | None:
    """Ask a broker, by Celery's settings, how many messages wait in the queue; None: there is no queue yet.

    Raises:
        ConnectionError: it does not answer; the text says why.

    """
    use()
    connection = connection_of(made, timeout)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout)
            return int(connection.default_channel.queue_declare(made["task_default_queue"], passive=True).message_count)
    except connection.channel_errors:
        return None
    except (*connection.connection_errors, KombuError, OSError) as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def connection_of(made: Mapping[str, Any], timeout: float) -> Any:
    """Return kombu's connection to a broker by Celery's settings, unopened."""
    options = {"transport_options": made["broker_transport_options"], "ssl": made.get("broker_use_ssl")}
    return Connection(made["broker_url"], connect_timeout=timeout, **options)


def waited_for(connection: Any, wait: Callable[[], None]) -> Any:
    """Return kombu's connection, which is tried again soon where it cannot be made; ``wait`` is called meanwhile.

    That is once before the first attempt, and every second between two.
    """
    plain = connection.ensure_connection

    def ensure_connection(*given: Any, callback: Callable[[], None] | None = None, **said: Any) -> Any:
        def turn() -> None:
            wait()
            if callback:
                callback()

        wait()
        return plain(*given, callback=turn, **{"interval_max": AGAIN_WITHIN, **said})

    connection.ensure_connection = ensure_connection
    return connection


def use() -> None:
    """Have Celery use this way for every Redis, in this process."""
    for scheme in ("redis", "rediss"):
        transport.TRANSPORT_ALIASES[scheme] = "lapse.runtime.broker:Transport"
    transport.TRANSPORT_ALIASES[SENTINEL] = "lapse.runtime.broker:SentinelTransport"


def _refuse(message: object, why: str) -> None:
    log.error("message.refused", why=why, **messages.named(message))
