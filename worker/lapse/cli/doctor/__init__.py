"""What ``lapse doctor`` looks at: each check is a finding with a level, in words, and with a fix where one is needed.

Nothing is changed, and a provider is sent one harmless request each.
"""

from lapse.cli.doctor.accounts import account
from lapse.cli.doctor.canary import canary
from lapse.cli.doctor.running import beat, broker, config, flows, observing, outbox, sweeps, workers
from lapse.cli.doctor.server import server

__all__ = [
    "account",
    "beat",
    "broker",
    "canary",
    "config",
    "flows",
    "observing",
    "outbox",
    "server",
    "sweeps",
    "workers",
]
