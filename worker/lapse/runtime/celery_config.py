"""The Celery settings that a config leads to, as plain values: ``lapse doctor`` looks at them without Celery."""

import ssl
from typing import Any

from lapse.policy import Config
from lapse.policy.reload import SENTINEL, Source, is_redis
from lapse.registry import keys
from lapse.runtime.sentinels import kombu_sentinels

QUEUE = "lapse"
CREDENTIALS = "credential_provider"
"""Lapse's own transport option: what opens the broker. Kombu's takes the name of a class alone, in the URL."""
FOLLOWS_WITHIN = 5.0  # seconds; how long beat may sleep, and so how late it sees a changed config
CONNECT_TIMEOUT = 5  # seconds
MESSAGE_WAIT = 3
"""Seconds for which one question for a message waits in Redis, and so does a worker that ends, at most."""

JSON_ONLY = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}


def settings(config: Config, broker: Source) -> dict[str, Any]:
    """Return the Celery settings that a config and its broker lead to."""
    # A sweep ends by itself after its budget; what is in flight then, and its outcomes, may take half a lease.
    soft_limit = config.sweep.budget + config.sweep.lease / 2 + 15
    return {
        **_broker(config, broker, 2 * (soft_limit + 15)),
        "worker_consumer": "lapse.runtime.worker:Consumer",
        **JSON_ONLY,
        "result_backend": None,
        "task_default_queue": QUEUE,
        "task_ignore_result": True,
        # Early: a lost wake-up costs one interval, a message that kills its worker must not come back.
        "task_acks_late": False,
        "task_soft_time_limit": soft_limit,
        "task_time_limit": soft_limit + 15,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A message waits in the queue, where any idle process of any host can take it.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": is_redis(broker.url) or broker.url.startswith(f"{SENTINEL}:"),
        # Whoever can write to the broker could shut workers down.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_scheduler": "lapse.runtime.beat:Scheduler",
        "beat_max_loop_interval": FOLLOWS_WITHIN,
    }


def _broker(config: Config, broker: Source, visibility: float) -> dict[str, Any]:
    broker_url, options, tls = broker.url, _options(config, broker.url, round(visibility)), None
    if broker.credentials:
        options[CREDENTIALS] = broker.credentials
    if named := kombu_sentinels(broker_url, CONNECT_TIMEOUT, broker.sentinels):
        broker_url, options, tls = named.url, options | named.options, named.tls
    if broker_url.startswith("amqps:"):
        tls = _verified(config)
    return {
        # All three: Celery takes one that is not set for another.
        "broker_url": broker_url,
        "broker_read_url": broker_url,
        "broker_write_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        "broker_transport_options": options,
        **({"broker_use_ssl": tls} if tls else {}),
    }


def _options(config: Config, broker_url: str, visibility: int) -> dict[str, Any]:
    given = dict(config.celery.broker_transport_options)
    if not is_redis(broker_url) and not broker_url.startswith(f"{SENTINEL}:"):
        return given
    # A connection whose peer vanished without a word is found dead: with the defaults a worker hung for ever.
    return {
        **given,
        "global_keyprefix": keys.broker(config.registry.namespace),
        "visibility_timeout": visibility,
        "socket_timeout": 10,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry_on_timeout": True,
    }


def _verified(config: Config) -> dict[str, Any]:
    # By itself py-amqp does not look for whom a certificate was made; None stands for the URL's host.
    verified = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": config.registry.tls_ca}
    unverified = {"cert_reqs": ssl.CERT_NONE}
    return verified if config.registry.tls_verify else unverified
