"""Puts the playground's kernels beside a fresh graph, where they can run it; the fidelity check then judges both.

They depend on the processor and not on the model, so they are compiled ahead, while one core waits for Python, and once
for all models: PLAYGROUND_HOME keeps what was compiled and tried, under all that decides what is in it.

They are taken for graphs of rounded weights that ``native.lowering`` reads to the end. Whatever stands in the way is a
sentence for the artifact, and ONNX Runtime runs the graph. What was built is remembered by this process, folder by
folder: until artifact.json says so, a file of that name proves nothing. This module makes no verdict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from playground.errors import StorageError, reason_of
from playground.kernels import building
from playground.messages import Translatable, msg
from playground.runtimes.native.stored import PROGRAM, write_program
from playground.runtimes.onnx.file import DECODER
from playground.sources.files import Progress, discard, put_in_place, staging, write_text

log = logging.getLogger(__name__)

FILES = (building.LIBRARY, PROGRAM)
"""What ``attach`` puts beside a graph."""

_BUILT: dict[Path, building.Built] = {}
"""What this process has compiled or taken from the package and tried, by the folder it lies in."""


Ahead = Future[building.Built]
"""Kernels that are being built, or were."""

DOCUMENT = "library.json"
"""What is recorded of a library that is kept."""

KEPT = 8
"""Libraries that are kept, of some 100 KB each: the newest ones."""


@contextlib.contextmanager
def ahead(home: Path, wanted: bool) -> Iterator[Ahead | None]:
    """Build the kernels beside the work of this block, for ``attach`` to take; they are gone behind it.

    Args:
        home: PLAYGROUND_HOME.
        wanted: Whether there will be a graph of rounded weights.

    Yields:
        None where there will be none, or the kernels can't be used here.

    Raises:
        StorageError: There is no room for them.
    """
    if not wanted or building.obstacle():
        yield None
        return
    with staging(home, "kernels") as stage, ThreadPoolExecutor(1) as pool:
        yield pool.submit(_kept_or_built, home, stage)


def _kept_or_built(home: Path, stage: Path) -> building.Built:
    """A library in ``stage``: one that was built here of the same before, or one that is built and kept now.

    Raises:
        KernelsUnavailable: It can't be built.
        OSError: The disk.
    """
    folder = home / "kernels" / building.inputs()
    if found := _kept(folder, stage / building.LIBRARY):
        return found
    found = building.build(stage)
    try:
        _keep(found, folder, home)
    except (OSError, StorageError) as error:  # it is there all the same
        log.warning("the library of kernels is not kept: %s", error)
    return found


def _kept(folder: Path, target: Path) -> building.Built | None:
    """A copy of the library in ``folder``, if it is what was recorded when it was tried."""
    try:
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        sha256, origin = document["sha256"], document["origin"]
        content = (folder / building.LIBRARY).read_bytes()
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    if hashlib.sha256(content).hexdigest() != sha256 or not isinstance(origin, str):
        return None
    target.write_bytes(content)
    return building.Built(target, sha256, origin)


def _keep(found: building.Built, folder: Path, home: Path) -> None:
    """Put a copy of a library that was tried into ``folder``, and throw the oldest ones away.

    Raises:
        OSError, StorageError: The disk.
    """
    with staging(home, "library") as stage:
        shutil.copyfile(found.path, stage / building.LIBRARY)
        write_text(stage / DOCUMENT, json.dumps({"sha256": found.sha256, "origin": found.origin}))
        put_in_place(stage, folder)
    others = [each for each in folder.parent.iterdir() if each != folder and not each.name.startswith(".")]
    for old in sorted(others, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        discard(old)


def attach(folder: Path, progress: Progress, ready: Ahead | None = None) -> Translatable | None:
    """Put the kernels into ``folder`` if they can run the graph there.

    Args:
        folder: Holds the graph.
        progress: Told when they are waited for, or built.
        ready: Those of this processor, which are copied; they are built now if None.

    Returns:
        Why not, or None where they are there now.

    Raises:
        OSError: The disk.
    """
    from playground.runtimes.native.lowering import read_program
    from playground.runtimes.native.program import NotForKernels

    if reason := building.obstacle():
        return reason
    if not (folder / DECODER).is_file():
        return msg("the model is more than a decoder")
    try:
        program = read_program(folder / DECODER)
        write_program(program, folder)
        del program  # it keeps the weights mapped
        progress(msg("building kernels"), None)
        _BUILT[folder.absolute()] = _taken(ready.result(), folder) if ready else building.build(folder)
    except NotForKernels as error:
        log.info("%s: not for the kernels", folder.name, exc_info=error)
        return reason_of(error)
    except building.KernelsUnavailable as error:
        (folder / PROGRAM).unlink(missing_ok=True)
        return reason_of(error)
    return None


def _taken(found: building.Built, folder: Path) -> building.Built:
    """A copy of a library in ``folder``."""
    place = folder / building.LIBRARY
    place.unlink(missing_ok=True)  # it may be a link to another artifact's
    shutil.copyfile(found.path, place)
    return dataclasses.replace(found, path=place)


def built(folder: Path) -> building.Built | None:
    """The library that ``attach`` has built in ``folder``, as long as it is to be used."""
    return _BUILT.get(folder.absolute())


def tool_versions(folder: Path) -> dict[str, str]:
    """Who compiled what computes the graph in ``folder``, as it stands in ``Artifact.tool_versions``."""
    return {"kernels": found.origin} if (found := built(folder)) else {}


def detach(folder: Path) -> None:
    """The graph is to be run by ONNX Runtime after all."""
    _BUILT.pop(folder.absolute(), None)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def engine(folder: Path) -> str:
    """What computes the graph in ``folder``, as it stands in ``Artifact.engine``."""
    return f"kernels {building.level()}" if built(folder) else "onnxruntime"
