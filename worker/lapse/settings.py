"""Where the policy file and the two Redis are, and the file's newest valid version while a process runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lapse.errors import ConfigError
from lapse.policy import Config, load
from lapse.policy.fields import redis_url

DEFAULT = Path("config/retention.toml")
TORN_READS = 5


@dataclass(frozen=True, slots=True)
class Source:
    """A Redis URL and where it was found: a variable's name, or the file's key. The URL may hold a password."""

    url: str = field(repr=False)
    origin: str


def find(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the policy file: ``LAPSE_CONFIG``, else config/retention.toml below the current directory.

    Raises:
        ConfigError: there is none; the text names both.

    """
    if chosen := environ.get("LAPSE_CONFIG"):
        path = cwd / chosen
        if path.is_file():
            return path
        raise ConfigError(f"LAPSE_CONFIG={chosen}: there is no such file; `lapse init` writes one to {DEFAULT}")
    path = cwd / DEFAULT
    if path.is_file():
        return path
    raise ConfigError(
        f"no policy file: LAPSE_CONFIG is not set, and there is no {DEFAULT} below {cwd}; `lapse init` writes it"
    )


def registry_source(config: Config, environ: Mapping[str, str]) -> Source:
    """Return the registry's Redis: ``LAPSE_REGISTRY__URL``, else the file's [registry] url, else ``REDIS_URL``.

    Raises:
        ConfigError: none of them, or REDIS_URL is not a Redis URL.

    """
    if config.registry.url:
        overridden = "LAPSE_REGISTRY__URL" in config.variables
        origin = "LAPSE_REGISTRY__URL" if overridden else f"{config.path or DEFAULT} [registry] url"
        return _secured(config, config.registry.url, origin)
    if environ.get("REDIS_URL"):
        return _secured(config, environ["REDIS_URL"], "REDIS_URL")
    raise ConfigError(
        "which Redis holds the registry? Set LAPSE_REGISTRY__URL, or url below [registry] in the policy file,"
        " or REDIS_URL"
    )


def broker_source(config: Config, environ: Mapping[str, str]) -> Source:
    """Return Celery's Redis: the file's [celery] broker_url, else ``CELERY_BROKER_URL``, else the registry's.

    Raises:
        ConfigError: there is no registry URL either.

    """
    if config.celery.broker_url:
        overridden = "LAPSE_CELERY__BROKER_URL" in config.variables
        origin = "LAPSE_CELERY__BROKER_URL" if overridden else f"{config.path or DEFAULT} [celery] broker_url"
        return _secured(config, config.celery.broker_url, origin)
    if environ.get("CELERY_BROKER_URL"):
        return _secured(config, environ["CELERY_BROKER_URL"], "CELERY_BROKER_URL")
    return registry_source(config, environ)


def _secured(config: Config, url: str, origin: str) -> Source:
    """Return the source with TLS settings spelled out: kombu does not verify a bare rediss:// by itself."""
    parts = urlsplit(url)
    if parts.scheme in {"redis", "rediss", "unix"}:
        try:
            redis_url(url)
        except ValueError as error:
            raise ConfigError(f"{origin}: {error}") from None
    if parts.scheme != "rediss":
        return Source(url, origin)
    query = dict(parse_qsl(parts.query))
    query.setdefault("ssl_cert_reqs", "required" if config.registry.tls_verify else "none")
    if config.registry.tls_ca:
        query.setdefault("ssl_ca_certs", config.registry.tls_ca)
    return Source(urlunsplit(parts._replace(query=urlencode(query))), origin)


class ConfigFile:
    """The policy file as it is now; while it is invalid, torn or gone, as it last was valid.

    Attributes:
        ok: False while the file on disk is not the one in use.
        error: Why, or None.
        loaded_at: When the version in use was read, in seconds since 1970.

    """

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        """Read the file.

        Raises:
            ConfigError: it is missing or invalid.

        """
        self.path = path
        self._environ = dict(environ)
        self._stamp = _stamp(path)
        self._config = self._read()
        self.ok = True
        self.error: str | None = None
        self.loaded_at = time.time()

    def current(self) -> Config:
        """Return the newest valid version; cheap while the file does not change."""
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return self._config
        try:
            config = self._read()
        except ConfigError as error:
            self.ok, self.error = False, str(error)
        else:
            if config.hash != self._config.hash:
                self._config, self.loaded_at = config, time.time()
            self.ok, self.error = True, None
        return self._config

    def _read(self) -> Config:
        """Read a version that did not change while it was read, and remember which one that was."""
        for _ in range(TORN_READS):
            before = _stamp(self.path)
            try:
                config = load(self.path, self._environ)
            except ConfigError:
                if before == _stamp(self.path):
                    self._stamp = before
                    raise
                continue
            if before == _stamp(self.path):
                self._stamp = before
                return config
        raise ConfigError(f"{self.path}: changes while it is read")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
