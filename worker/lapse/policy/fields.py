"""The types of single values in the policy file: each accepts one spelling and says what is wrong in a sentence.

No I/O. Every check here raises ValueError with a text that follows ``key: ``; none repeats a value that may be secret.
"""

import re
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, core_schema

from lapse import durations
from lapse.errors import ConfigError
from lapse.policy.problems import did_you_mean, shown
from lapse.providers.kinds import KINDS, singular
from lapse.providers.not_found import nondescript
from lapse.providers.route import ENVIRONMENT, parse
from lapse.registry import keys
from lapse.registry.pools.address import SCHEMES, several

UNLIMITED: Final = "unlimited"
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)/(s|m|h)")
_PER = {"s": 1, "m": 60, "h": 3600}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TLS_PARAMETERS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _rate(value: object) -> float | None:
    if value == UNLIMITED:
        return None
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f'{shown(value)} is not a rate: write requests per s, m or h, such as "60/m", or "unlimited"')
    if not float(found[1]):
        raise ValueError(f'{shown(value)} allows nothing at all: pause the provider instead, or write "unlimited"')
    return float(found[1]) / _PER[found[2]]


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank: write a value or leave the key out")
    if any(ord(character) < ord(" ") for character in value):
        raise ValueError("holds a line break or another control character")
    return value


def _variable(value: str) -> str:
    if _VARIABLE.fullmatch(value):
        return value
    raise ValueError(
        "is not the name of an environment variable (not shown, it may be the key itself): put the key into a"
        ' variable and write its name, such as "OPENAI_API_KEY"'
    )


def _recogniser(value: str) -> str:
    if nondescript(value):
        raise ValueError(
            f"{shown(value)} is what servers say when the whole endpoint is missing: write words that only an absent"
            ' object gets, such as "Assistant not found"'
        )
    return value


def _kind(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a kind: write its name, such as "conversation"')
    try:
        return singular(value)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _kinds(value: object) -> tuple[str, ...]:
    words = value if isinstance(value, list) else [value]
    if not words:
        raise ValueError('is empty: name at least one kind, such as ["conversation"]')
    names = tuple(_kind(word) for word in words)
    if len(set(names)) < len(names):
        raise ValueError("names one kind twice")
    return names


def _child(value: object) -> str:
    return str(value) if value in _CHILDREN else _kind(value)


def _provider_type(value: object) -> str:
    if isinstance(value, str) and value in KINDS:
        return value
    raise ValueError(f"{shown(value)} is not a provider type: {did_you_mean(value, KINDS)}")


def split_url(value: str, schemes: tuple[str, ...]) -> SplitResult:
    """Return the parts of a URL.

    Raises:
        ValueError: it is none, has another scheme or no host; the text does not repeat it.

    """
    try:
        parts = urlsplit(value)
        port_is_valid = parts.port != 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid or re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise ValueError("is not a URL: write special characters in it as %XX, and no spaces")
    if parts.scheme not in schemes:
        raise ValueError(f"is not a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return parts


def _base_url(value: str) -> str:
    parts = split_url(value, ("https", "http"))
    if not parts.hostname:
        raise ValueError("names no host: write it as https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password: credentials belong into api_key_env or api_key_file")
    if "?" in value or "#" in value:
        raise ValueError("has a query or fragment: paths are appended to it, so leave that out")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"https": 443, "http": 80}[parts.scheme]
    netloc = host if parts.port in {None, default} else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def _proxy(value: str) -> str:
    if value != ENVIRONMENT:
        try:
            parse(value)
        except ValueError as error:
            raise ValueError(f'{error}; or "env"') from None
    return value


def redis_url(value: str) -> str:
    """Return a Redis URL unchanged.

    Raises:
        ValueError: not every process of lapse would take it, or they would silently take another database; it is not
            repeated.

    """
    parts = split_url(value, REDIS)
    if ";" in value or parts.fragment:
        raise ValueError("holds a ';' or a '#', which ends an address: in a password write it as %3B or %23")
    _redis_parameters(parts)
    if parts.scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket: write it as unix:///PATH?db=0")
        return value
    if not parts.hostname:
        raise ValueError(f"names no host: write it as {parts.scheme}://HOST:6379/0")
    if not re.fullmatch(r"/?[0-9]*", parts.path):
        raise ValueError(f"names a database that is not a number: write it as {parts.scheme}://HOST:6379/0")
    return value


REDIS = ("redis", "rediss", "unix")
"""The schemes of a Redis, as lapse spells them."""
_CARRY_NOTHING = {"memory": "reaches no other process", "redis+socket": "is spelled unix:///PATH?db=0 here"}


def broker_url(value: str) -> str:
    """Return the URL of a broker unchanged: of a Redis, or of whatever else Celery's kombu carries messages by.

    Raises:
        ValueError: as ``redis_url`` does, it is no URL, or one of its messages would reach nobody; it is not repeated.

    """
    scheme, there, rest = value.partition("://")
    if scheme in REDIS or scheme in SCHEMES:
        return registry_url(value)
    if not there or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+]*", scheme) or re.search(r"[\s\\\x00-\x1f\x7f]", value):
        raise ValueError(
            "is not a broker's URL: write it as redis://HOST:6379/1, amqp://USER:PASSWORD@HOST, sqs:// ..."
        )
    if scheme in _CARRY_NOTHING:
        raise ValueError(f"begins with {scheme}://, which {_CARRY_NOTHING[scheme]}")
    if "ssl_" in rest.partition("?")[2]:
        raise ValueError("has ssl_ settings behind its '?': write tls_ca and tls_verify below [registry]")
    return value


def registry_url(value: str) -> str:
    """Return the URL of a registry unchanged: of one Redis, of a cluster's nodes, or of Sentinels.

    Raises:
        ValueError: as ``redis_url`` does, and for what a URL of several servers lacks; it is not repeated.

    """
    try:
        target = several(value)
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("the registry's URL ")) from None
    if target is None:
        return redis_url(value)
    for node in target.addresses:
        redis_url(target.url(node))
    if other := sorted(target.sentinels.keys() - _OF_SENTINELS):
        raise ValueError(f"has {shown(f'sentinel_{other[0]}')} behind its '?': lapse takes {_TAKEN}")
    return value


_OF_SENTINELS = ("password", "tls", "username")
_TAKEN = ", ".join(f"sentinel_{name}" for name in _OF_SENTINELS)


def _redis_parameters(parts: SplitResult) -> None:
    """Refuse what stands behind the ``?`` and is not read alike by redis-py, by Celery and by lapse."""
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    taken = {"db", *_TLS_PARAMETERS} if parts.scheme == "rediss" else {"db"}
    said = dict(pairs)
    if len(said) < len(pairs) or (parts.query and not pairs):
        raise ValueError("has a parameter twice behind its '?', or none")
    if other := sorted(said.keys() - taken):
        raise ValueError(f"has {shown(other[0])} behind its '?': leave it out; lapse takes {', '.join(sorted(taken))}")
    if said.get("ssl_cert_reqs", "required").lower().removeprefix("cert_") != "required":
        raise ValueError(
            "has ssl_cert_reqs, which switches off that the server is verified: leave it out, or write"
            " tls_verify = false below [registry]"
        )
    if "db" not in said:
        return
    if not re.fullmatch(r"[0-9]{1,5}", said["db"]):
        raise ValueError("has a db that is not a number")
    if parts.scheme != "unix" and parts.path.strip("/") not in {"", said["db"]}:
        raise ValueError("names two databases: leave ?db= out")


def _sink(value: str) -> str:
    if value == "stdout" or (value.startswith("file:") and value.removeprefix("file:").strip()):
        return value
    raise ValueError(f'{shown(value)} is not a sink: write "stdout" or "file:PATH"')


class OrUnlimited:
    """Marks a table in whose place ``"unlimited"`` may stand; that becomes None."""

    def __get_pydantic_core_schema__(self, source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: object, inner: core_schema.ValidatorFunctionWrapHandler) -> object:
            if value == UNLIMITED:
                return None
            if not isinstance(value, dict):
                raise ValueError(f'{shown(value)} is not a limit: write a table {{ ... }}, or "unlimited"')
            return inner(value)

        return core_schema.no_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(core), {"const": UNLIMITED, "description": "No limit, and that is meant."}]}


_KIND_WORDS = sorted({word for kinds in KINDS.values() for kind in kinds.values() for word in (kind.name, kind.plural)})
_CHILDREN = frozenset(kind.child.name for kinds in KINDS.values() for kind in kinds.values() if kind.child)
_KIND_SCHEMA = {"type": "string", "enum": _KIND_WORDS}
_DURATION_SCHEMA = {"type": "string", "minLength": 2, "pattern": durations.PATTERN, "examples": ["90s", "30d"]}

Duration = Annotated[float, PlainValidator(durations.parse), WithJsonSchema(_DURATION_SCHEMA)]
Ramp = Annotated[
    float | None,
    PlainValidator(lambda said: None if said == "off" else durations.parse(said)),
    WithJsonSchema({"anyOf": [_DURATION_SCHEMA, {"const": "off"}]}),
]
Rate = Annotated[
    float | None,
    PlainValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": rf"^{_RATE.pattern}$|^{UNLIMITED}$", "examples": ["60/m"]}),
]
Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[
    str,
    AfterValidator(lambda said: keys.name(said, "name")),
    Field(json_schema_extra={"pattern": f"^{keys.NAME.pattern}$"}),
]
Variable = Annotated[str, AfterValidator(_variable), Field(json_schema_extra={"pattern": f"^{_VARIABLE.pattern}$"})]
Recogniser = Annotated[str, AfterValidator(_text), AfterValidator(_recogniser)]
KindNames = Annotated[
    tuple[str, ...],
    PlainValidator(_kinds),
    WithJsonSchema({"anyOf": [_KIND_SCHEMA, {"type": "array", "items": _KIND_SCHEMA, "minItems": 1}]}),
]
ChildName = Annotated[str, BeforeValidator(_child), WithJsonSchema({"enum": sorted({*_KIND_WORDS, *_CHILDREN})})]
ProviderType = Annotated[str, PlainValidator(_provider_type), WithJsonSchema({"enum": sorted(KINDS)})]
BaseUrl = Annotated[str, AfterValidator(_base_url), Field(json_schema_extra={"format": "uri"})]
Proxy = Annotated[str, AfterValidator(_proxy), Field(json_schema_extra={"pattern": f"^{ENVIRONMENT}$|^http://"})]
BrokerUrl = Annotated[str, AfterValidator(broker_url)]
RegistryUrl = Annotated[str, AfterValidator(registry_url)]
Sink = Annotated[str, AfterValidator(_sink)]
