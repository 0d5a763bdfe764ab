"""What a comparison ran on: processor, cores, memory limit, versions of what matters, commit of this checkout.

It knows the machine; it does not know models.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

from playground import __version__
from playground.paths import ROOT
from playground.records import Environment
from playground.system import cgroups, memory
from playground.system.cpu import affinity_cores, command_output, cpu_name, usable_cores

PACKAGES = ("onnxruntime", "onnxruntime-genai", "transformers", "tokenizers", "torch", "optimum", "numpy", "gradio")


@cache
def environment() -> Environment:
    """Read once: nothing of it changes while the process lives."""
    return Environment(
        cpu=cpu_name(),
        cores=usable_cores(),
        cores_affinity=affinity_cores(),
        cores_cgroup=cgroups.cores(),
        memory_limit_mb=memory.limit_mb(),
        versions=_versions(),
        commit=commit(ROOT),
    )


def commit(checkout: Path) -> str | None:
    """The commit checked out in ``checkout``; None if it is no repository of its own, or there is no git."""
    if not (checkout / ".git").exists():
        return None
    return command_output("git", "-C", str(checkout), "rev-parse", "HEAD")


def _versions() -> dict[str, str]:
    found = {"playground": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
