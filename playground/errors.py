"""Every error this product raises on purpose, in one tree.

    PlaygroundError
    ├── UsageError              the command or the form was wrong (exit code 2)
    │   ├── UnknownModel        no such model; carries the closest names
    │   ├── UnknownVariant      the model exists, this runtime or precision does not
    │   └── BadRequest          prompt or parameters out of range
    ├── ConfigError             spaces.yaml, catalog.yaml or the environment is wrong
    ├── StorageError            PLAYGROUND_HOME can't be read or written, or the disk is full
    ├── SourceError             weights can't be fetched
    │   └── ChecksumError       what arrived, or what is cached, is not what was promised
    ├── Stopped                 whoever asked for the work took it back
    ├── ExportError             a recipe failed
    │   └── FidelityError       the export ran, but is too far from the original
    └── RunError                one model failed while loading or answering
        ├── WorkerDied          its process ended; carries the signal or exit code
        ├── WorkerStalled       its process stopped reporting
        ├── ContextOverflow     the prompt does not fit the model's context
        └── DoesNotFit          the model would take more memory than there is

A message has two parts: what went wrong (naming the model) and the next step. Both are shown to
the reader; neither holds a traceback, a token or a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class PlaygroundError(Exception):
    """Root of the tree.

    Args:
        what: What went wrong, naming the model where there is one. One sentence, no full stop needed.
        next_step: What the reader can do about it; empty where nothing helps.
    """

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(what, next_step)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        what = self.what.rstrip(".")
        what += "" if what.endswith("?") else "."
        return f"{what} {self.next_step}" if self.next_step else what


class UsageError(PlaygroundError):
    """The command or the form was wrong; nothing was started."""


FEW = 8
"""Names that an error can list and still be read."""


def some(names: Sequence[str], few: int = FEW) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(names[:few]) + more


class UnknownModel(UsageError):
    """No model has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        names, wanted = sorted(known), name.lower()
        begun = [each for each in names if wanted and each.startswith(wanted)]
        close = (begun + [each for each in difflib.get_close_matches(wanted, names, n=3) if each not in begun])[:3]
        if close:
            hint = f"Did you mean {' or '.join(close)}?"
        elif len(names) <= FEW:
            hint = f"Known models: {', '.join(names)}."
        else:
            hint = f"{len(names)} models are known; `python -m playground models` and the Catalogue tab list them."
        super().__init__(f"Unknown model '{name}'", hint)
        self.close = close


class UnknownVariant(UsageError):
    """The model is known, but not in this runtime or precision."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(text, names, n=1, cutoff=0.3)
        hint = f"Did you mean {close[0]}? " if close else ""
        super().__init__(f"Unknown variant '{text}'", f"{hint}Known variants: {', '.join(names)}.")


class BadRequest(UsageError):
    """A prompt or a parameter is out of range."""


class ConfigError(PlaygroundError):
    """A configuration file or an environment variable is wrong."""


class StorageError(PlaygroundError):
    """PLAYGROUND_HOME can't be read or written."""


class SourceError(PlaygroundError):
    """Weights can't be fetched."""


class ChecksumError(SourceError):
    """Bytes are not the promised ones."""


class Stopped(PlaygroundError):
    """The work was called off by whoever asked for it; nothing is wrong."""


class ExportError(PlaygroundError):
    """An export recipe failed."""


class FidelityError(ExportError):
    """An export is too far from the model it was made from."""


class RunError(PlaygroundError):
    """One model failed; the others carry on."""


class WorkerDied(RunError):
    """A worker's process ended."""


class WorkerStalled(RunError):
    """A worker stopped reporting."""


class ContextOverflow(RunError):
    """Prompt and answer do not fit the model's context."""


class DoesNotFit(RunError):
    """The model alone would take more memory than all models together may."""
