"""A choice as a file: the suite that models have to pass and the limits they have to keep to, in one YAML document.

    suite: mail.yaml                 # a suite's file beside this one, or the suite itself as a block
    models: [smollm2-135m-instruct, gemma-3-270m-it@onnx-int4]
    repeats: 1
    limits:
      min_pass_rate: 80 %
      min_scores: {arc_easy: 0.4}
      min_speed: 20
      max_ttft: 1.5
      max_memory: 1500
      min_context: 2048
      min_openness: 2
      commercial: true

The limits are called as the options of ``playground choose``. It knows the document's form; the suite in it is read by
``suites``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.choose.answers import share
from playground.choose.constraints import Constraints, check_limits
from playground.config import validation
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.choose.file_schema import LimitsBlock

MAX_BYTES = 60_000_000
"""Of the whole file, the suite in it included."""


@dataclass(frozen=True)
class Choice:
    """The document as read.

    Attributes:
        suite: Text of the suite, as YAML where it is a block of this file; empty where its own file holds it.
        suite_file: That file; None where the suite is a block, or there is none.
        models: As written; empty for those that the suite names.
        repeats: Samples of each prompt; None for what the suite says.
    """

    path: Path
    limits: Constraints
    models: tuple[str, ...] = ()
    suite: str = ""
    suite_file: Path | None = None
    repeats: int | None = None

    @property
    def has_suite(self) -> bool:
        return bool(self.suite) or self.suite_file is not None


def read_choice(path: Path, *, alone: bool = False) -> Choice:
    """Read and check the document; the suite's file is not opened yet.

    Args:
        alone: Whether a suite has to stand in it: then no other file is looked for.

    Raises:
        ConfigError: It can't be read, or a key or value is wrong; names the place and the nearest known key.
        UsageError: It is too large, or its parts don't go together.
    """
    from playground.choose.file_schema import ChoiceBlock

    where = path.name
    try:
        size = path.stat().st_size
    except (OSError, ValueError):
        size = 0  # reading it says what is wrong
    if size > MAX_BYTES:
        raise UsageError(
            msg("{file} has {mb:,.0f} MB", file=where, mb=size / 1e6),
            msg("At most {most:,.0f} MB are read.", most=MAX_BYTES / 1e6),
        )
    document = validation.read_yaml(path, msg("Check the path; docs/choose.md has such a file."))
    if not isinstance(document, dict):
        raise UsageError(
            msg("{file} is no list of keys", file=where),
            msg("Write limits: and the limits below it; see docs/choose.md."),
        )
    block = validation.checked(ChoiceBlock, document, f"{where}: ")
    limits = _limits(block.limits, where)
    if block.suite is None and (limits.min_pass_rate is not None or block.repeats is not None):
        raise UsageError(
            msg("{file} asks for a pass rate and names no suite", file=where),
            msg("Add suite: with the path of the suite's file, or the suite itself."),
        )
    if not limits.stated and block.suite is None:
        raise UsageError(msg("{file} states no limit", file=where), msg("Write at least one below limits:."))
    if alone and isinstance(block.suite, str):
        raise UsageError(
            msg("The choice names a suite's file, and no files are read here"),
            msg("Write the suite itself below suite:."),
        )
    file = path.parent / block.suite if isinstance(block.suite, str) else None
    if file is not None and not file.is_file():
        raise UsageError(
            msg("{file}: there is no suite {path}", file=where, path=file), msg("The path is from this file's folder.")
        )
    text = _yaml(block.suite) if isinstance(block.suite, dict) else ""
    return Choice(path, limits, tuple(block.models), text, file, block.repeats)


def _limits(block: LimitsBlock | None, where: str) -> Constraints:
    if block is None:
        return Constraints()
    rate = block.min_pass_rate
    limits = Constraints(
        max_memory_mb=block.max_memory,
        max_ttft_s=block.max_ttft,
        min_tok_s=block.min_speed,
        commercial=block.commercial,
        min_openness=block.min_openness,
        min_context=block.min_context,
        min_pass_rate=None if rate is None else share(rate, msg("{file}: limits.min_pass_rate", file=where)),
        min_scores={task: float(least) for task, least in block.min_scores.items()},
    )
    check_limits(limits)
    return limits


def _yaml(block: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(block, sort_keys=False, allow_unicode=True)
