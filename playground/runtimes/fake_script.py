"""What a scripted model is told to do, behind ``fake:``. It knows fields and their values; it plays nothing."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs

from playground.errors import UsageError
from playground.messages import msg

DEFAULT_TEXT = "This answer was scripted, not thought up."


@dataclass(frozen=True)
class Script:
    """What stands behind ``fake:``, as query-string fields. Token numbers count from 1; 0 means never.

    Attributes:
        text: The answer.
        load_s: Loading takes this long.
        prefill_s: From tokenisation to the first token.
        step_s: Between two tokens.
        prepare_s: Preparing takes this long (read by whoever prepares, not here).
        prepare_error: Preparing fails with this message (likewise).
        disk_mb: Preparing writes so much (likewise).
        fail_at: Raise an error instead of this token.
        fail_load: Loading raises an error.
        die_at: End the own process by SIGKILL instead of this token.
        stall_at: Instead of this token report nothing more and ignore Stop.
        pause_at: Before this token nothing comes for ``pause_s`` more; then the answer goes on.
        pause_s: How long that is.
        chunk: Send so many tokens in one piece of text, as some servers do; their moments stay those of the tokens.
        cpu_s: CPU time to burn before the prompt is read; its wall time comes on top of ``prefill_s``.
        memory_mb: Resident memory to hold, in MB.
        sure: The scripted token's logit when scored; all others have 0.
        fail_score: Scoring raises an error instead of this token's row.
        tokenizer: Models whose tokenizers have other names have other tokens.
        template: 0 for a base model, whose prompt is sent as it stands.
    """

    text: str = DEFAULT_TEXT
    load_s: float = 0.0
    prefill_s: float = 0.0
    step_s: float = 0.0
    prepare_s: float = 0.0
    prepare_error: str = ""
    disk_mb: float = 0.0
    fail_at: int = 0
    fail_load: int = 0
    die_at: int = 0
    stall_at: int = 0
    pause_at: int = 0
    pause_s: float = 0.0
    chunk: int = 1
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    sure: float = 10.0
    fail_score: int = 0
    tokenizer: str = "words"
    template: int = 1

    @classmethod
    def parse(cls, source: str) -> Script:
        """Read ``fake:field=value&field=value``.

        Raises:
            UsageError: A field is unknown or its value no number of 0 or more.
        """
        values: dict[str, str | int | float] = {}
        for name, given in parse_qs(source.partition(":")[2], keep_blank_values=True).items():
            default = getattr(cls, name, None) if name in cls.__dataclass_fields__ else None
            if default is None:
                raise UsageError(
                    msg("{source}: a fake model has no field '{name}'", source=source, name=name),
                    msg("Fields: {names}.", names=list(cls.__dataclass_fields__)),
                )
            try:
                value = type(default)(given[-1])
                if isinstance(value, (int, float)) and value < 0:
                    raise ValueError(value)
            except ValueError:
                raise UsageError(
                    msg("{source}: {name} is {value}", source=source, name=name, value=repr(given[-1])),
                    msg("Give a number of 0 or more."),
                ) from None
            values[name] = value
        return cls(**values)  # type: ignore[arg-type]
