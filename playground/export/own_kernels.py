"""Puts the playground's kernels beside a fresh graph, where they can run it; the fidelity check then judges both.

They are taken for graphs of rounded weights that ``kernel_reader`` reads to the end. Whatever stands in the way is a
sentence for the artifact, and ONNX Runtime runs the graph. This module makes no verdict.
"""

from __future__ import annotations

import logging
from pathlib import Path

from playground.kernels import building
from playground.runtimes.onnx_file import DECODER
from playground.sources.files import Progress

log = logging.getLogger(__name__)


def put_beside(folder: Path, progress: Progress) -> str | None:
    """Compile the kernels into ``folder`` if they can run the graph there.

    Returns:
        Why not, or None where they are there now.
    """
    from playground.runtimes.kernel_program import NotForKernels
    from playground.runtimes.kernel_reader import read_program

    if reason := building.obstacle():
        return reason
    if not (folder / DECODER).is_file():
        return "the model is more than a decoder"
    try:
        program = read_program(folder / DECODER)
        del program  # it keeps the weights mapped
        progress("compiling kernels", None)
        building.build(folder)
    except (NotForKernels, building.KernelsUnavailable) as error:
        return str(error)
    except (ValueError, KeyError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        log.warning("%s: the graph can't be read for the kernels", folder.name, exc_info=error)
        return f"the graph can't be read ({type(error).__name__}: {error})"
    return None


def take_away(folder: Path) -> None:
    """The graph is to be run by ONNX Runtime after all."""
    (folder / building.LIBRARY).unlink(missing_ok=True)


def engine(folder: Path) -> str:
    """What computes the graph in ``folder``, as it stands in ``Artifact.engine``."""
    return f"kernels {building.level()}" if (folder / building.LIBRARY).is_file() else "onnxruntime"
