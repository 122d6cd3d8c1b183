"""What the processes of one worker, beat or exporter have in common: made once, before the pool forks."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import structlog

from lapse.audit.chain import open_seal
from lapse.guards.integrity import monitor, preflight
from lapse.guards.integrity.statefile import state_file_of
from lapse.ledger import outbox
from lapse.log import register_secret, register_url
from lapse.policy import Config
from lapse.policy.reload import ConfigFile, broker_source, find, is_redis, registry_source, state_folder
from lapse.providers import entra
from lapse.providers.account import Account
from lapse.providers.route import route_to
from lapse.providers.transport import trust
from lapse.registry.pools.credentials.password_file import tell
from lapse.runtime.heartbeat import Heartbeat
from lapse.runtime.shutdown import Stop

SHORTEST_SLICE = 1.0

log = structlog.get_logger("lapse")


class Host:
    """What the processes of one worker, beat or exporter have in common.

    Attributes:
        config: The version that it started with.
        registry: The registry's Redis.
        broker: Celery's broker.
        stop: Says that all of them are to end.
        children: How many of them run tasks.
        pid: The process that made this.
        name: Tells this host from all others, and from itself before a restart.
        checked: Whether the registry's Redis was looked at.
        witness: The file in which this host remembers its registry, or None.
        known: What was known of the registry when the worker started: its processes go on from there.

    """

    def __init__(self, environ: Mapping[str, str], cwd: Path) -> None:
        """Find and read the config.

        Raises:
            ConfigError: no file, an invalid one, or no registry URL.

        """
        self.environ = dict(environ)
        self.file = ConfigFile(find(environ, cwd), environ)
        self.config = self.file.current()
        self.registry = registry_source(self.config, environ)
        self.broker = broker_source(self.config, environ)
        self.stop = Stop()
        self.children = 1
        self.pid = os.getpid()
        self.checked = False
        self.name = secrets.token_hex(6)
        self.witness = state_file_of(self.config, self.environ)
        self.known = self.witness.load() if self.witness else None
        self._told = (self.config.hash, self.file.error)
        tell(register_secret)
        for source in (self.registry, self.broker):
            register_url(source.url)

    def current(self) -> Config:
        """Return the newest valid config; a change, and what is wrong with an invalid one, is logged once."""
        config = self.file.current()
        if self._told != (config.hash, self.file.error):
            if self.file.error and self.file.error != self._told[1]:
                log.error("config.invalid", error=self.file.error, in_use=config.hash)
            if config.hash != self._told[0]:
                log.info("config.loaded", hash=config.hash, before=self._told[0], path=str(config.path))
                self._tell_what_needs_a_restart(config)
            self._told = (config.hash, self.file.error)
        return config

    def slice(self, config: Config, account: Account) -> float:
        """Return the seconds that one run may take.

        Every partition gets its turn within the shortest interval of all, as long as that leaves each a second,
        and time for the tokens of three requests.
        """
        shortest = min(rule.every for rule in config.rules)
        fair = shortest * self.children / len(config.rules)
        tokens = 3 / account.rate if account.rate else 0.0
        # The time limits of tasks were set for the budget at the start.
        return min(config.sweep.budget, self.config.sweep.budget, max(SHORTEST_SLICE, tokens, fair))

    def check(self, role: str, *, broker: bool = False) -> None:
        """Say once where the URLs come from, and look whether the registry's Redis can be trusted with it.

        Raises:
            ConfigError: it cannot.

        """
        log.info("registry.source", role=role, url=self.registry.url, origin=self.registry.origin)
        if broker:
            log.info("broker.source", role=role, url=self.broker.url, origin=self.broker.origin)
        log.info(
            "config.in_use",
            role=role,
            path=str(self.config.path),
            hash=self.config.hash,
            enforcing=[str(rule.partition) for rule in self.config.rules if rule.enforce],
            observing=[str(rule.partition) for rule in self.config.rules if not rule.enforce],
        )
        if role == "worker":
            entra.demand(self.config.accounts.values())
            for account in self.config.accounts.values():
                trust(route_to(account, self.environ))
            open_seal(self.config.audit.key_file)
            self._check_state()
        if broker and is_redis(self.broker.url) and self.broker.endpoint.url != self.registry.url:
            preflight.start_broker(self.broker.endpoint)
        preflight.start(self.registry.endpoint, self.config)
        self.known = monitor.begin(
            self.registry.endpoint, self.config.registry.namespace, preflight.TIMEOUT, self.witness
        )
        self.checked = True

    def _check_state(self) -> None:
        """Make the state folder; say where confirmations go that Redis does not take, or that they would be lost."""
        if state := state_folder(self.environ):
            with contextlib.suppress(OSError):  # what needs it says so
                state.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = outbox.folder_of(self.config.sweep.outbox, self.environ)
        if folder is None:
            log.warning("outbox.missing", fix=outbox.FIX)
            return
        outbox.check(folder)
        log.info("outbox.in_use", folder=str(folder))

    def _tell_what_needs_a_restart(self, config: Config) -> None:
        at_start = self.config
        for section in ("registry", "celery"):
            if getattr(config, section) != getattr(at_start, section):
                log.warning("config.needs_restart", section=section)


def show(heartbeat: Heartbeat, *, connected: bool = True) -> None:
    """Show that the loop turns; where that cannot be written, the log says so once."""
    known = heartbeat.error
    if not heartbeat.turned(connected=connected) and heartbeat.error != known:
        log.warning("heartbeat.unwritten", error=heartbeat.error)
