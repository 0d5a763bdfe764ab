"""The Hub on loopback, for tests of what is read of it."""

from tests.support.hub_server import hub

__all__ = ["hub"]
