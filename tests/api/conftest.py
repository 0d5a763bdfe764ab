"""A door to the scripted models, one for each module."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from playground.config.settings import load_settings
from playground.service import Playground
from tests.conftest import DATA
from tests.support.door import served


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """All rooms together, on the scripted models."""
    given = {
        "PLAYGROUND_HOME": str(tmp_path_factory.mktemp("home")),
        "PLAYGROUND_SPACE": str(DATA / "fake_space.yaml"),
        "PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"),
        "PLAYGROUND_THREADS": "1",
    }
    with Playground(load_settings(given)) as playground:
        yield playground


@pytest.fixture(scope="module")
def door(models: Playground) -> Iterator[str]:
    """Its address."""
    with served(models) as url:
        yield url


@pytest.fixture(scope="module")
def web(door: str) -> Iterator[httpx2.Client]:
    """Asks the door."""
    with httpx2.Client(base_url=door, timeout=30, verify=False) as client:
        yield client
