"""The small Hub, as whoever may write to it."""

from __future__ import annotations

import pytest

from tests.support.hub_server import WRITER, Hub, hub

__all__ = ["hub"]


@pytest.fixture
def writer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The Hub with a token in the environment that may write."""
    monkeypatch.setenv("HF_TOKEN", WRITER)
    return hub
