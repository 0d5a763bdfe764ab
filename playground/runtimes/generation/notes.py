"""What several runtimes tell a reader in the same words.

The module knows sentences; when they are said, the runtimes know.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.errors import ContextOverflow
from playground.messages import Translatable, msg, plural
from playground.runtimes.generation.chat_template import Turn

OWN_SYSTEM_MESSAGE = msg("The messages bring their own system message; the system prompt is not used.")
BASE_WITHOUT_SYSTEM = msg("This is a base model; the system prompt is not used.")
JOINED_MESSAGES = msg("The messages were joined by blank lines: there is no template that marks who speaks.")


def prompt_too_long(model: str, tokens: int, context: int) -> ContextOverflow:
    """The error for a prompt of ``tokens`` that leaves no room in a context of ``context``."""
    return ContextOverflow(
        plural(
            "{model}: the prompt has {n:,} token, its context holds {context:,}",
            "{model}: the prompt has {n:,} tokens, its context holds {context:,}",
            tokens,
            model=model,
            context=context,
        ),
        msg("Shorten the prompt or choose a model with a longer context."),
    )


def called(turns: Sequence[Turn], number: int) -> Translatable:
    """A turn for its reader."""
    role, users = turns[number][0], [role for role, _ in turns].count("user")
    if role == "system":
        return msg("the system prompt")
    if role == "user" and users == 1:
        return msg("the prompt")
    return msg("message {number} (role: {role})", number=number + 1, role=role)
