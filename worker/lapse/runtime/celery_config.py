"""The Celery settings that a config leads to, as plain values: ``lapse doctor`` looks at them without Celery."""

from typing import Any

from lapse.policy import Config
from lapse.registry import keys

QUEUE = "lapse"
FOLLOWS_WITHIN = 5.0  # seconds; how long beat may sleep, and so how late it sees a changed config

JSON_ONLY = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
}


def settings(config: Config, broker_url: str) -> dict[str, Any]:
    """Return the Celery settings that a config leads to."""
    # A sweep ends by itself after its budget; what is in flight then, and its outcomes, may take half a lease.
    soft_limit = config.sweep.budget + config.sweep.lease / 2 + 15
    return {
        **_broker(config, broker_url, 2 * (soft_limit + 15)),
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
        "worker_disable_prefetch": True,
        # Whoever can write to the broker could shut workers down.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "beat_scheduler": "lapse.runtime.beat:Scheduler",
        "beat_max_loop_interval": FOLLOWS_WITHIN,
    }


def _broker(config: Config, broker_url: str, visibility: float) -> dict[str, Any]:
    return {
        # All three: Celery takes one that is not set for another.
        "broker_url": broker_url,
        "broker_read_url": broker_url,
        "broker_write_url": broker_url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        # A connection whose peer vanished without a word is found dead: with the defaults a worker hung for ever.
        "broker_transport_options": {
            "global_keyprefix": keys.broker(config.registry.namespace),
            "visibility_timeout": round(visibility),
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": True,
        },
    }
