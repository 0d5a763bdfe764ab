"""Fixtures for every room: settings with a home of their own, and the scripted models of tests/data."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark.expression import Expression
from xdist.remote import Producer
from xdist.scheduler.protocol import Scheduling

from playground.catalog.entries import Catalog, load_catalog
from playground.config.settings import Settings, load_settings
from playground.service import Playground
from playground.workers.pool import Pool
from tests.families.bank import Bank
from tests.support import compiler
from tests.support.distribution import MARKS, ByModule, marks_in
from tests.support.tiny_bank import TinyBank

DATA = Path(__file__).parent / "data"

# Started in the background (nohup, a shell's &), Python inherits signals that are ignored, and so would every app that
# a test starts and wants to interrupt.
for _signal, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) == signal.SIG_IGN:
        signal.signal(_signal, _handler)

_COMPILED = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """One C compiler for all workers, which compiles the same only once (`tests.support.compiler`)."""
    if not hasattr(config, "workerinput"):
        folder = config.stash[_COMPILED] = Path(tempfile.mkdtemp(prefix="compiled-"))
        if command := compiler.install(folder):
            os.environ["CC"] = str(command)


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(_COMPILED, None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out a module of which ``-m`` can select no test, whichever of the marks in its text a test has: importing
    all of them takes longer than some parts of the suite, and each worker does.
    """
    if not collection_path.name.startswith("test_") or not (wanted := config.option.markexpr):
        return None
    return True if not _may_select(wanted, marks_in(collection_path)) else None


LONGEST = (
    "export/test_memory.py",
    "export/recipes/test_dynamo.py",
    "runtimes/native/test_more_families.py",
    "runtimes/native/test_programs.py",
    "export/test_renewal.py",
    "kernels/test_kernels.py",
    "kernels/test_fuzz.py",
    "kernels/test_neon.py",
    "export/test_planted_faults.py",
    "families/test_families.py",
    "ui/test_accessibility.py",
    "ui/test_prompt_set.py",
    "evaluation/test_agreement.py",
    "integration/test_same_text.py",
    "runtimes/remote/test_serve.py",
    "ui/test_app.py",
    "ui/test_compare.py",
    "integration/test_runtimes.py",
    "ui/test_answers.py",
    "ui/test_page.py",
    "ui/test_history.py",
    "ui/test_votes.py",
    "ui/test_differences.py",
    "kernels/test_shares.py",
    "integration/test_hub.py",
    "evaluation/test_worker.py",
    "integration/test_scores.py",
    "ui/test_attacks.py",
    "sources/hub/test_hub.py",
    "runtimes/native/test_own_library.py",
    "ui/test_suggestions.py",
    "ui/test_benchmark.py",
    "ui/test_streams.py",
    "ui/test_what_they_read.py",
    "integration/test_suite.py",
    "ui/test_strangers.py",
    "ui/test_japanese.py",
)
"""Modules that take a minute or more, the longest first: begun last, one of them would keep one core busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return ByModule(config, log) if config.getvalue("dist") == "loadgroup" else None


@cache
def _may_select(wanted: str, marks: frozenset[str]) -> bool:
    if not set(re.findall(r"\w+", wanted)) <= {"and", "or", "not", *MARKS}:
        return True  # a mark of which nothing is known here
    expression = Expression.compile(wanted)
    some = (each for count in range(len(marks) + 1) for each in combinations(sorted(marks), count))
    return any(expression.evaluate(lambda name, each=each: name in each) for each in some)


MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common; whoever writes there locks it, or is the only one."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def bank(shared: Path) -> Bank:
    """The tiny models of the families and what is made of them, for all who only read."""
    return Bank(shared / "families", shared / "families-home")


@pytest.fixture(scope="session")
def tiny_bank(shared: Path) -> TinyBank:
    """The tiny Llama and homes in which it is prepared, for those who begin with one."""
    return TinyBank(shared / "tiny")


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings of the scripted models under a home of the test's own; environment variables as keywords."""

    def make(**env: Any) -> Settings:
        given = {
            "PLAYGROUND_HOME": tmp_path / "home",
            "PLAYGROUND_SPACE": DATA / "fake_space.yaml",
            "PLAYGROUND_CATALOG": DATA / "fake_catalog.yaml",
            "PLAYGROUND_THREADS": 2,
        } | env
        return load_settings({name: str(value) for name, value in given.items()})

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
def fake_catalog() -> Catalog:
    """The scripted models: fast, slow, fails, fails-to-load, dies, stalls, endless, slow-to-prepare, fails-to-prepare
    and base, each as ``…@fake-none``.
    """
    return load_catalog(DATA / "fake_catalog.yaml")


@pytest.fixture
def playground(settings: Settings) -> Iterator[Playground]:
    """All rooms together, on the scripted models."""
    with Playground(settings) as playground:
        yield playground


@pytest.fixture
def pool(settings: Settings) -> Iterator[Pool]:
    with Pool(settings) as pool:
        yield pool
