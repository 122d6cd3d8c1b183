"""Dashboards are checked against a real scrape of a registry with something in it."""

from support.sandbox_fixture import sandbox, sandbox_server
from support.world import world

__all__ = ["sandbox", "sandbox_server", "world"]
