"""pip as a process of its own that can be called off: what downloading wheels and installing the exporter share.

Which index is asked, with which proxy and which certificates, is pip's business. It knows how to run pip; what to make
of its words is the caller's.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from playground.errors import Stopped
from playground.messages import Translatable, msg
from playground.sources.files import Cancelled
from playground.system.child_environment import INDEXES, NETWORK, passed

POLL_S = 0.1


def run_pip(
    arguments: Sequence[str],
    said: Path,
    temporary: Path,
    *,
    cancelled: Cancelled,
    what: Translatable,
    tick: Callable[[], None],
) -> int:
    """Run ``python ARGUMENTS`` to its end and return its exit code.

    Args:
        arguments: ``-m pip …``.
        said: File for all that pip prints.
        temporary: An empty folder for what pip unpacks: what appears in it is how far it is.
        what: Named if it is called off, as the beginning of a sentence.
        tick: Called several times a second, to tell of progress.

    Raises:
        Stopped: ``cancelled`` said so.
    """
    folder = str(temporary)
    environment = {**passed(NETWORK, INDEXES), "TMPDIR": folder, "TEMP": folder, "TMP": folder}
    command = [sys.executable, *arguments]
    with said.open("wb") as output:
        # pip stays in our process group, so whoever kills or suspends the group has pip too.
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                if cancelled():
                    raise Stopped(msg("{what} was called off", what=what))
                tick()
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode
