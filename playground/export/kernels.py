"""Puts the playground's kernels beside a fresh graph, where they can run it; the fidelity check then judges both.

They are taken for graphs of rounded weights that ``native.lowering`` reads to the end. Whatever stands in the way is a
sentence for the artifact, and ONNX Runtime runs the graph. What was built is remembered by this process, folder by
folder: until artifact.json says so, a file of that name proves nothing. This module makes no verdict.
"""

from __future__ import annotations

import logging
from pathlib import Path

from playground.errors import reason_of
from playground.kernels import building
from playground.messages import Translatable, msg
from playground.runtimes.native.stored import PROGRAM, write_program
from playground.runtimes.onnx.file import DECODER
from playground.sources.files import Progress

log = logging.getLogger(__name__)

FILES = (building.LIBRARY, PROGRAM)
"""What ``attach`` puts beside a graph."""

_BUILT: dict[Path, building.Built] = {}
"""What this process has compiled or taken from the package and tried, by the folder it lies in."""


def attach(folder: Path, progress: Progress) -> Translatable | None:
    """Build the kernels into ``folder`` if they can run the graph there.

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
        _BUILT[folder.absolute()] = building.build(folder)
    except NotForKernels as error:
        log.info("%s: not for the kernels", folder.name, exc_info=error)
        return reason_of(error)
    except building.KernelsUnavailable as error:
        (folder / PROGRAM).unlink(missing_ok=True)
        return reason_of(error)
    return None


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
