"""A child process that does one job and ends: how each of them begins."""

from __future__ import annotations

import sys
from collections.abc import Callable

from playground.system.child import Message, decode, encode, end_with_parent, end_with_stdin, take_streams


def take_job() -> tuple[Message | None, Callable[[Message], None]]:
    """The job that the parent sent, and what takes a message to it. None where the parent ended before it sent any.

    From then on the process ends with its parent, and whatever is printed goes to stderr.
    """
    end_with_parent()
    commands, write, _ = take_streams()
    sys.stdout = sys.stderr
    line = commands.readline()
    job = decode(line) if line else None
    if job is not None:
        end_with_stdin(commands)
    return job, lambda message: write(encode(message))
