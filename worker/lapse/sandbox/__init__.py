"""A stand-in for the provider: an HTTP server that keeps state as the provider does, and fails on request."""

from lapse.errors import ConfigError

try:
    from lapse.sandbox.server import Sandbox, serve
except ModuleNotFoundError as missing:
    library = str(missing.name).partition(".")[0]
    raise ConfigError(
        f"the provider stand-in needs {library}: install lapse with its extra, lapse[sandbox]"
    ) from missing

__all__ = ["Sandbox", "serve"]
