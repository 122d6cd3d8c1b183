"""Where the policy file, the registry, the broker and a host's state are, and the file's newest valid version."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from redis import CredentialProvider

from lapse.errors import ConfigError
from lapse.policy import Config
from lapse.policy.credentials import Opening, of_broker, of_registry
from lapse.policy.fields import REDIS, broker_url, registry_url
from lapse.policy.loader import called, parse, read
from lapse.registry.pools.address import CLUSTER, SCHEMES, several
from lapse.registry.pools.credentials.endpoint import RedisEndpoint

DEFAULT = Path("config/retention.toml")
SETTLED = 0.1
"""Seconds for which a file has to stay as it is before it is taken: a plain copy empties it first and fills it then."""
PATIENCE = 2.0
"""Seconds to wait for that."""


@dataclass(frozen=True, slots=True)
class Source:
    """A URL and where it was found: a variable's name, or the file's key. The URL may hold a password.

    Attributes:
        url: The URL.
        origin: Where it was found.
        credentials: What proves to its servers who connects, where the URL does not.
        sentinels: What proves it to its Sentinels.

    """

    url: str = field(repr=False)
    origin: str
    credentials: CredentialProvider | None = field(default=None, repr=False)
    sentinels: CredentialProvider | None = field(default=None, repr=False)

    def opened_by(self, opening: Opening) -> Self:
        """Return the same, with what opens it."""
        credentials, sentinels = opening
        return replace(self, credentials=credentials, sentinels=sentinels)

    @property
    def endpoint(self) -> RedisEndpoint:
        """What redis-py connects to, if this is a Redis."""
        return RedisEndpoint(for_redis(self.url), self.credentials, self.sentinels)


def find(environ: Mapping[str, str], cwd: Path) -> Path:
    """Return the policy file: ``LAPSE_CONFIG``, else config/retention.toml below the current directory.

    Raises:
        ConfigError: there is none; the text names both.

    """
    chosen = environ.get("LAPSE_CONFIG")
    path = cwd / (chosen or DEFAULT)
    if path.is_file():
        return path
    if chosen and path.is_dir():
        raise ConfigError(f"LAPSE_CONFIG={chosen}: it is a folder; name the policy file in it")
    if chosen:
        raise ConfigError(f"LAPSE_CONFIG={chosen}: there is no such file; `lapse init` writes one to {DEFAULT}")
    raise ConfigError(
        f"no policy file: LAPSE_CONFIG is not set, and there is no {DEFAULT} below {cwd}; `lapse init` writes it"
    )


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return where this host keeps what has to outlive a process: ``LAPSE_STATE_DIR``, else systemd's, else None."""
    said = environ.get("LAPSE_STATE_DIR") or environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(said) if said else None


def lasting(name: str, environ: Mapping[str, str]) -> Path:
    """Return a file that has to outlive a process: a relative name is below the state folder, if there is one.

    A file of that name that is below the current directory already is the one that is meant.
    """
    path, state = Path(name), state_folder(environ)
    return path if state is None or path.exists() else state / path


def audit_file(config: Config, environ: Mapping[str, str]) -> Path | None:
    """Return the file that ``[audit] sink`` names; None: standard output."""
    scheme, _, name = config.audit.sink.partition(":")
    return lasting(name, environ) if scheme == "file" else None


def registry_source(config: Config, environ: Mapping[str, str]) -> Source:
    """Return the registry's Redis: ``LAPSE_REGISTRY__URL``, else the file's [registry] url, else ``REDIS_URL``.

    Raises:
        ConfigError: none of them, REDIS_URL is not a Redis URL, or what opens it does not go with it.

    """
    if config.registry.url:
        found = _secured(config, config.registry.url, origin_of(config, "registry", "url"))
    elif environ.get("REDIS_URL"):
        found = _secured(config, environ["REDIS_URL"], "REDIS_URL")
    else:
        raise ConfigError(
            "which Redis holds the registry? Set LAPSE_REGISTRY__URL, or url below [registry] in the policy file,"
            " or REDIS_URL"
        )
    return found.opened_by(of_registry(found.url, config.registry, partial(origin_of, config, "registry")))


def broker_source(config: Config, environ: Mapping[str, str]) -> Source:
    """Return Celery's broker: ``LAPSE_CELERY__BROKER_URL``, else the file's [celery] broker_url, else
    ``CELERY_BROKER_URL``, else the registry's Redis.

    Raises:
        ConfigError: there is no registry URL either, what CELERY_BROKER_URL names is no broker, or a Redis has options.

    """
    found = _own_broker(config, environ) or registry_source(config, environ)
    _demand_no_cluster(found)
    if not is_redis(found.url):
        return found
    if config.celery.broker_transport_options:
        where = origin_of(config, "celery", "broker_transport_options")
        raise ConfigError(f"{where}: lapse has its own for a Redis, which {found.origin} names: leave them out")
    return replace(found, url=_for_kombu(found.url))


def _own_broker(config: Config, environ: Mapping[str, str]) -> Source | None:
    """Return the broker that has a URL of its own; None: it is the registry's Redis."""
    if config.celery.broker_url:
        url, origin = config.celery.broker_url, origin_of(config, "celery", "broker_url")
    elif environ.get("CELERY_BROKER_URL"):
        url, origin = environ["CELERY_BROKER_URL"], "CELERY_BROKER_URL"
    else:
        return None
    try:
        broker_url(url)
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None
    if not is_redis(url):
        return Source(url, origin)
    found = _secured(config, url, origin)
    return found.opened_by(of_broker(found.url, config.registry, partial(origin_of, config, "registry")))


def _demand_no_cluster(broker: Source) -> None:
    target = several(broker.url)
    if target and target.what == CLUSTER:
        raise ConfigError(
            f"{broker.origin} names a cluster, which Celery's broker cannot be: name it by itself, as"
            " LAPSE_CELERY__BROKER_URL, broker_url below [celery] in the policy file, or CELERY_BROKER_URL"
        )


def origin_of(config: Config, section: str, key: str) -> str:
    """Return what says a key: the environment variable, if it is set, else the file and the key."""
    variable = f"LAPSE_{section}__{key}".upper()
    if variable in (name.upper() for name in config.variables):
        return variable
    return f"{called(config.path or DEFAULT)} [{section}] {key}"


def _secured(config: Config, url: str, origin: str) -> Source:
    """Return the source with TLS settings spelled out: kombu does not verify a bare rediss:// by itself."""
    url = plain(url, origin)
    parts = urlsplit(url)
    if parts.scheme.partition("+")[0] != "rediss":
        return Source(url, origin)
    query = dict(parse_qsl(parts.query))
    stated = "ssl_cert_reqs" in query
    query["ssl_cert_reqs"] = "required" if stated or config.registry.tls_verify else "none"
    if config.registry.tls_ca:
        query.setdefault("ssl_ca_certs", config.registry.tls_ca)
    return Source(urlunsplit(parts._replace(query=urlencode(query))), origin)


def plain(url: str, origin: str) -> str:
    """Return a Redis URL in the one spelling that redis-py and kombu read alike: the database of a host in the path.

    Raises:
        ConfigError: it is none, or has parameters that not every process would take; the text begins with ``origin``.

    """
    try:
        parts = urlsplit(registry_url(url))
    except ValueError as error:
        raise ConfigError(f"{origin}: {error}") from None
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "unix" or "db" not in query:
        return url
    return urlunsplit(parts._replace(path=f"/{query.pop('db')}", query=urlencode(query)))


def _for_kombu(url: str) -> str:
    """Return a URL as kombu spells it: it has its own scheme and its own word for the database of a Unix socket."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    query = dict(parse_qsl(parts.query))
    query["virtual_host"] = query.pop("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?{urlencode(query)}"


def for_redis(url: str) -> str:
    """Return kombu's spelling of a URL as redis-py has it."""
    parts = urlsplit(url)
    if parts.scheme != "redis+socket":
        return url
    return f"unix://{parts.netloc}{parts.path}?db={dict(parse_qsl(parts.query)).get('virtual_host', '0')}"


SENTINEL = "sentinel"
"""Kombu's scheme of a Redis that sentinels name, which is the broker's alone."""


def is_redis(url: str) -> bool:
    """Return True if a broker is a Redis, in lapse's spelling or kombu's, for which lapse has transport options."""
    return url.partition("://")[0] in {*REDIS, *SCHEMES, "redis+socket"}


_Stamp = tuple[int, int, int, int] | None


class ConfigFile:
    """The policy file as it is now; while it is invalid, torn or gone, as it last was valid.

    Attributes:
        path: The file.
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
        self._stamp: _Stamp = None
        self._config = self._read()
        self.ok = True
        self.error: str | None = None
        self.loaded_at = time.time()

    def current(self) -> Config:
        """Return the newest valid version: one stat while the file does not change, else up to ``PATIENCE`` seconds."""
        if _stamp(self.path) == self._stamp:
            return self._config
        try:
            config = self._read()
        except ConfigError as error:
            self.ok, self.error = False, str(error)
        else:
            if config != self._config:
                self._config, self.loaded_at = config, time.time()
            self.ok, self.error = True, None
        return self._config

    def _read(self) -> Config:
        """Read a version that is whole: neither changing while it is read, nor changed only just now."""
        deadline, seen, since = time.monotonic() + PATIENCE, _stamp(self.path), time.monotonic()
        while True:
            try:
                text, problem = read(self.path), None
            except ConfigError as error:
                text, problem = "", error
            now = _stamp(self.path)
            if now != seen:
                seen, since = now, time.monotonic()
            elif seen is None or _is_old(seen) or time.monotonic() - since >= SETTLED:
                break
            if time.monotonic() >= deadline:
                raise ConfigError(f"{called(self.path)}: changes again and again while it is read")
            time.sleep(SETTLED / 10)
        self._stamp = seen
        if problem:
            raise problem
        return parse(text, called(self.path), self._environ, self.path)


def _is_old(stamp: tuple[int, int, int, int]) -> bool:
    """Return True if a file was last changed long enough ago; a clock ahead of ours says nothing."""
    return time.time() - max(stamp[0], stamp[1]) / 1e9 >= SETTLED


def _stamp(path: Path) -> _Stamp:
    """Return what changes with the file: a copy that keeps times and size still changes the second of them."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
