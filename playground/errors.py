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
    ├── Busy                    too much is waiting already; the same request may be answered later
    ├── Stopped                 whoever asked for the work took it back
    ├── ExportError             a recipe failed
    │   └── FidelityError       the export ran, but is too far from the original
    └── RunError                one model failed while loading or answering
        ├── WorkerDied          its process ended; carries the signal or exit code
        ├── WorkerStalled       its process stopped reporting
        ├── ContextOverflow     the prompt does not fit the model's context
        ├── Unavailable         a server is not there, has no room or broke off; another one may answer
        ├── DoesNotFit          the model would take more memory than there is
        └── OutOfMemory         the app itself gets no more memory

A message has two parts: what went wrong (naming the model) and the next step. Both are shown to
the reader; neither holds a traceback, a token or a secret. Both are templates with values (``messages.py``), so that
the front ends can say them in the reader's language.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from playground.messages import NOTHING, Translatable, foreign, msg, sentences


class PlaygroundError(Exception):
    """Root of the tree.

    Args:
        what: What went wrong, naming the model where there is one. One sentence, no full stop needed.
        next_step: What the reader can do about it; empty where nothing helps.
    """

    def __init__(self, what: Translatable, next_step: Translatable = NOTHING) -> None:
        super().__init__(what, next_step)
        self.what = foreign(what)
        self.next_step = foreign(next_step)

    @property
    def message(self) -> Translatable:
        """What went wrong and the next step, as sentences."""
        what = self.what if self.what.endswith((".", "?")) else msg("{sentence}.", sentence=self.what)
        return sentences(what, self.next_step)

    def __str__(self) -> str:
        return self.message  # not a plain copy: str(error) can be translated too

    def to_json(self) -> dict[str, Any]:
        """The error for another process: ``kind``, the nearest class of this module; ``what``, ``next_step``."""
        kind = next(each for each in type(self).__mro__ if each.__module__ == __name__)
        return {"kind": kind.__name__, "what": self.what.to_json(), "next_step": self.next_step.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any], unknown: type[PlaygroundError] | None = None) -> PlaygroundError:
        """The error that another process raised, of the same class and with the same two messages.

        Args:
            unknown: The class where ``kind`` is none of this module's; ``PlaygroundError`` by default.
        """
        found = globals().get(str(data["kind"]))
        kind = unknown or PlaygroundError
        if isinstance(found, type) and issubclass(found, PlaygroundError):
            kind = found
        # Not by the class's own __init__: it makes messages of other values, and these messages are made.
        error = kind.__new__(kind)
        what, next_step = (Translatable.from_json(data[name]) for name in ("what", "next_step"))
        PlaygroundError.__init__(error, what, next_step)
        return error


class Reason(ValueError):
    """Why something can't be read or run, as a phrase that a ``PlaygroundError`` further up puts into its sentence."""

    def __init__(self, reason: Translatable) -> None:
        super().__init__(reason)
        self.reason = reason


def reason_of(error: BaseException) -> Translatable:
    """What an error says, as a value of a message: our own reason as a message, a library's words as they are."""
    if isinstance(error, PlaygroundError):
        return error.message
    said = error.args[0] if len(error.args) == 1 else ""
    return said if isinstance(said, Translatable) else foreign(str(error))


def first_line(said: str | BaseException, longest: int = 200) -> Translatable:
    """The first line of somebody else's words, for a place in a sentence of ours; a reason of our own is whole."""
    if isinstance(said, Reason | PlaygroundError):
        return reason_of(said)
    lines = str(said).strip().splitlines()
    return shortened(lines[0].rstrip(), longest) if lines else msg("no message")


def shortened(words: str, longest: int = 200) -> Translatable:
    """Somebody else's words in at most ``longest`` characters; what is cut off is so behind a word, and shows as "…".

    Where the last word takes more than half of the room (Japanese, a path) it is cut itself.
    """
    if len(words) <= longest:
        return foreign(words)
    kept = words[: longest - 1]
    if not words[longest - 1].isspace():
        *before, begun = re.split(r"\s", kept)
        if before and len(begun) <= longest // 2:
            kept = kept[: -len(begun) or None]
    return foreign(kept.rstrip(" \t\r\n,;:(") + "…")


class UsageError(PlaygroundError):
    """The command or the form was wrong; nothing was started."""


FEW = 8
"""Names that an error can list and still be read."""


def some(names: Sequence[str], few: int = FEW) -> Translatable:
    """The first of the names, and how many more there are."""
    if len(names) > few:
        return msg("{names} and {more} more", names=names[:few], more=len(names) - few)
    return msg("{names}", names=names)


def either(names: Sequence[str]) -> Translatable:
    """Names of which one is meant."""
    if len(names) == 1:
        return msg("{name}", name=names[0])
    return msg("{names} or {last}", names=names[:-1], last=names[-1])


def all_of(names: Sequence[str]) -> Translatable:
    """Names that are all meant: "a, b and c"."""
    if len(names) == 1:
        return msg("{name}", name=names[0])
    return msg("{names} and {last}", names=names[:-1], last=names[-1])


CLOSE, BESIDE = 0.69, 0.15
"""How like a name must be to be asked about at all, and how far behind the best one it may be."""


def closest(wanted: str, names: Iterable[str], most: int = 3) -> list[str]:
    """Of ``names`` those that somebody who wrote ``wanted`` may have meant, the likeliest first."""
    found = sorted(((_likeness(wanted, name), name) for name in names), key=lambda each: -each[0])
    least = max(CLOSE, found[0][0] - BESIDE) if found else CLOSE
    return [name for likeness, name in found if likeness >= least][:most]


def _likeness(wanted: str, name: str) -> float:
    """0 to 1.05: what was written as a whole found again, word by word in any order or as how the name begins. Plain
    ``difflib`` counts what was left out as well, and so prefers a short name of another family to "-instruct".
    """
    asked, there = _words(wanted), _words(name)
    if not asked or not there:
        return 0.0
    by_word = sum(len(word) * max(_same(word, other) for other in there) for word in asked) / sum(map(len, asked))
    glued, whole = "".join(asked), "".join(there)
    ends = (length for length in (len(glued) - 1, len(glued), len(glued) + 1) if length > 0)
    return max(by_word, *(_same(glued, whole[:end]) for end in ends)) + 0.05 * _same(glued, whole)


def _words(name: str) -> list[str]:
    """Of a model's name, without its owner; of letters no name is long enough to need."""
    return re.findall(r"[^\W_]+(?:\.[^\W_]+)*", name[-100:].lower().rpartition("/")[2])


def _same(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


class UnknownModel(UsageError):
    """No model has this name.

    Args:
        how: What can be named, and how, for whoever has neither the terminal nor the page.

    Attributes:
        close: The names that come closest; of an error from another process none.
    """

    close: Sequence[str] = ()

    def __init__(self, name: str, known: Iterable[str], how: Translatable = NOTHING) -> None:
        names = sorted(known)
        close = closest(name, names)
        if close:
            hint = sentences(msg("Did you mean {names}?", names=either(close)), how)
        elif len(names) <= FEW:
            hint = sentences(msg("Known models: {names}.", names=names), how)
        elif how:
            hint = how
        else:
            hint = msg("{n} models are known; `playground models` and Models ▸ Find list them.", n=len(names))
        super().__init__(msg("Unknown model '{name}'", name=name), hint)
        self.close = close


class UnknownVariant(UsageError):
    """The model is known, but not in this runtime or precision."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        names = list(known)
        close = difflib.get_close_matches(text, names, n=1, cutoff=0.3)
        super().__init__(
            msg("Unknown variant '{text}'", text=text),
            sentences(
                msg("Did you mean {names}?", names=close) if close else NOTHING,
                msg("Known variants: {names}.", names=names),
            ),
        )


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


class Busy(PlaygroundError):
    """Too much is waiting already, or was asked for.

    Attributes:
        retry_after_s: When the same may be asked for again, in seconds, as far as is known.
    """

    def __init__(self, what: Translatable, next_step: Translatable = NOTHING, *, retry_after_s: float = 1.0) -> None:
        super().__init__(what, next_step)
        self.retry_after_s = retry_after_s


class Stopped(PlaygroundError):
    """The work was called off by whoever asked for it; nothing is wrong."""


class ExportError(PlaygroundError):
    """An export recipe failed."""


class FidelityError(ExportError):
    """An export is too far from the model it was made from."""


class RunError(PlaygroundError):
    """One model failed; the others carry on."""


class SchemaNotHeld(RunError):
    """No answer of this model can be held to the JSON schema that was sent, or none could be gone on with."""


class WorkerDied(RunError):
    """A worker's process ended."""


class WorkerStalled(RunError):
    """A worker stopped reporting."""


class ContextOverflow(RunError):
    """Prompt and answer do not fit the model's context."""


class Unavailable(RunError):
    """A server can't be reached, has no room, failed or broke off: the request may be all right elsewhere.

    Attributes:
        lasting: Whether waiting does not help: it refuses the key, or knows no such model. Of an error from another
            process False.
    """

    lasting = False

    def __init__(self, what: Translatable, next_step: Translatable = NOTHING, *, lasting: bool = False) -> None:
        super().__init__(what, next_step)
        self.lasting = lasting


class DoesNotFit(RunError):
    """The model alone would take more memory than all models together may."""


class OutOfMemory(RunError):
    """This process itself gets no more memory; nothing is wrong with the model."""
