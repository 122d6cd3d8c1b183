"""Dashboards are checked against a real scrape of a registry with something in it."""

from sandbox_fixture import sandbox, sandbox_server
from world import world

__all__ = ["sandbox", "sandbox_server", "world"]
