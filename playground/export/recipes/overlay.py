"""optimum's exporter in a folder of its own, because it needs an older transformers than the application runs on.

``overlay-requirements.txt`` names the exact versions; pip installs them without their dependencies into
``PLAYGROUND_HOME/overlay/KEY``, and a process that has this folder first on its path (``optimum.py``) uses them, with
torch, onnx and numpy from the application. The folder is renamed into place when pip is done. The key changes with the
list and with the Python, so another version of the application never meets another's packages.

This module does not know what the packages are for.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
from pathlib import Path

from playground.errors import ExportError, StorageError, first_line
from playground.messages import msg
from playground.sources.files import Cancelled, Progress, bytes_in, locked, put_in_place, staging, storage_errors
from playground.sources.pip import run_pip

log = logging.getLogger(__name__)

REQUIREMENTS = Path(__file__).with_name("overlay-requirements.txt")
PIP = ("-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-compile", "--no-input", "--quiet")
# Without a network pip's five retries would keep everybody waiting for a minute.
PIP_PATIENCE = ("--retries", "2", "--timeout", "20", "--progress-bar", "off", "--disable-pip-version-check")
SIZE = 120_000_000
"""About what it takes on disk, for progress."""


class OverlayError(ExportError):
    """The packages can't be installed now. Another time, with a network, they may be."""


def pins() -> dict[str, str]:
    """Package and version, as the list names them."""
    lines = (line.strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def overlay_folder(home: Path) -> Path:
    """Where the packages lie, or will."""
    made_for = f"{sys.implementation.cache_tag} {platform.system()} {platform.machine()}"
    key = hashlib.sha256(f"{sorted(pins().items())} {made_for}".encode()).hexdigest()[:16]
    return home / "overlay" / key


def ensure_overlay(home: Path, progress: Progress, cancelled: Cancelled) -> Path:
    """The folder with the packages, installed now or before.

    Args:
        home: PLAYGROUND_HOME.
        progress: Told the share of the install.
        cancelled: Asked several times a second.

    Raises:
        OverlayError: pip could not install them; says why.
        StorageError: ``home`` can't be written, or the disk is full.
        Stopped: ``cancelled`` said so.
    """
    folder = overlay_folder(home)

    def waiting() -> None:
        progress(msg("waiting for another process"), None)

    with locked(home, f"overlay-{folder.name}", cancelled, waiting), storage_errors(home):
        if not folder.is_dir():
            with staging(home, "overlay") as stage:
                _install(stage, home, progress, cancelled)
                put_in_place(stage / "packages", folder)
    return folder


def _install(stage: Path, home: Path, progress: Progress, cancelled: Cancelled) -> None:
    packages, said = stage / "packages", stage / "pip.log"
    temporary = stage / "tmp"
    temporary.mkdir()
    install = [*PIP, *PIP_PATIENCE, "--target", str(packages), "--requirement", str(REQUIREMENTS)]

    def tick() -> None:
        # pip unpacks into its temporary folder and moves everything at the end.
        progress(msg("installing the exporter"), min(0.99, bytes_in(stage) / SIZE))

    if run_pip(install, said, temporary, cancelled=cancelled, what=msg("Installing the exporter"), tick=tick):
        raise _error(home, said.read_text(encoding="utf-8", errors="replace"))


def _error(home: Path, said: str) -> ExportError | StorageError:
    log.error("pip could not install the exporter:\n%s", said.strip())
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return StorageError(
            msg("The disk that holds {home} is full", home=home),
            msg("Free some space or set PLAYGROUND_HOME to another disk."),
        )
    if "No module named pip" in said:
        return OverlayError(
            msg("optimum can't be installed: this Python has no pip"), msg("Run `python -m ensurepip`.")
        )
    if "from versions: none" in said or "Connection" in said or "timed out" in said:
        reason = msg("the package index can't be reached")
    elif "from versions:" in said:
        reason = msg("the package index does not offer what it needs")
    else:
        last = (said.strip().splitlines() or [""])[-1]
        reason = msg("pip failed: {reason}", reason=first_line(last, 160))
    return OverlayError(
        msg("optimum can't be installed: {reason}", reason=reason), msg("Check the network and pip's settings.")
    )
