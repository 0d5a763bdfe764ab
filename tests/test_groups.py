"""Tests of one group share a worker, and with it what is made once for all of them; so do those of a module that is not
``parallel``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.parallel]

ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests.support.distribution import ByModule

def pytest_xdist_make_scheduler(config, log):
    return ByModule(config, log)

def pytest_configure(config):
    config.addinivalue_line("markers", "parallel: goes to whoever is free")
"""
MODULE = """
import os
import time
import pytest
{marks}

@pytest.mark.parametrize("number", range(6))
def test_whose(number):
    time.sleep(0.1)  # as long as the other worker needs to ask for some
    with open(__file__ + ".workers", "a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_what_shares_a_worker(tmp_path: Path) -> None:
    of = {
        "test_grouped.py": "pytestmark = [pytest.mark.parallel, pytest.mark.xdist_group('one worker')]",
        "test_module.py": "",
        "test_parallel.py": "pytestmark = pytest.mark.parallel",
    }
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name, marks in of.items():
        (tmp_path / name).write_text(MODULE.format(marks=marks))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = {name: (tmp_path / f"{name}.workers").read_text().split() for name in of}
    assert {name: len(each) for name, each in workers.items()} == dict.fromkeys(of, 6)
    assert {name: len(set(each)) for name, each in workers.items()} == dict.fromkeys(of, 1) | {"test_parallel.py": 2}
