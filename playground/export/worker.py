"""The process of one preparation: ``python -m playground.export.worker``.

A job comes as one line of JSON on stdin: ``{"spec": …, "variant": …, "home": …}``. Lines of JSON go out on stdout:
``{"step": …, "progress": …}`` any number of times, then one ``{"artifact": …}`` or ``{"error": …}``. Whatever libraries
print goes to stderr. When stdin closes, whoever started the job is gone, and the process ends with all its children.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from playground.errors import ExportError, PlaygroundError, StorageError
from playground.records import ModelSpec, Variant
from playground.sources.files import Progress, storage_error

PROGRESS_INTERVAL_S = 0.1


def main() -> int:
    """Do one job."""
    out = _own_stdout()
    line = sys.stdin.readline()
    if not line:
        return 2
    job = json.loads(line)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # Only the process that fetches from the Hub may use the network, if the user did not forbid it.
    os.environ["PLAYGROUND_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "")
    # Progress bars and chatter are for terminals; the job's log keeps warnings.
    os.environ.update(
        HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false"
    )
    home = Path(job["home"])
    try:
        artifact = _run(job, home, _reporter(out))
    except PlaygroundError as error:
        return _fail(out, error)
    except OSError as error:
        return _fail(out, storage_error(home, error))
    except MemoryError:
        return _fail(out, StorageError(f"There is not enough memory to prepare {job['spec']['name']}", "Free some."))
    except Exception as error:
        logging.exception("preparing %s failed", job["variant"])
        what = f"Preparing {job['spec']['name']} failed ({type(error).__name__}: {str(error)[:200]})"
        return _fail(out, ExportError(what, f"The log is in {home / 'logs'}."))
    _send(out, {"artifact": artifact})
    return 0


def _run(job: dict[str, Any], home: Path, report: Progress) -> dict[str, Any]:
    from playground.export.pipeline import make

    spec, variant = ModelSpec.from_json(job["spec"]), Variant.from_json(job["variant"])
    # Calling off is a signal to the whole process group, so nothing here has to ask for it.
    return make(spec, variant, home, report, lambda: False).to_json()


def _own_stdout() -> IO[str]:
    """Keep the pipe for ourselves; file descriptor 1, which C++ libraries print to as well, becomes stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return out


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _reporter(out: IO[str]) -> Progress:
    last_step, last_time = "", 0.0

    def report(step: str, progress: float | None) -> None:
        nonlocal last_step, last_time
        now = time.monotonic()
        if step != last_step or now - last_time >= PROGRESS_INTERVAL_S:
            last_step, last_time = step, now
            _send(out, {"step": step, "progress": progress})

    return report


def _fail(out: IO[str], error: PlaygroundError) -> int:
    logging.error("%s", error)
    _send(out, {"error": {"type": type(error).__name__, "what": error.what, "next_step": error.next_step}})
    return 1


def _send(out: IO[str], message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
