"""The Hub on loopback, for tests of downloads from it."""

from tests.support.hub_server import hub

__all__ = ["hub"]
