"""The process of one preparation: ``python -m playground.export.worker``.

A job comes as one line of JSON on stdin: ``{"spec": …, "variant": …, "home": …, "keys": …}``, the last for those of its
children that fetch (``child_environment``). Lines of JSON go out on stdout:
``{"step": …, "progress": …}`` any number of times, then one ``{"artifact": …}`` or ``{"error": …}``. Whatever libraries
print goes to stderr. When stdin closes, whoever started the job is gone, and the process ends with all its children.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground.errors import ExportError, PlaygroundError, StorageError, first_line
from playground.messages import Translatable, msg
from playground.records import ModelSpec, Variant
from playground.sources.files import Progress, storage_error
from playground.system import child_environment
from playground.system.child import Message
from playground.system.one_job import take_job

PROGRESS_INTERVAL_S = 0.1

Send = Callable[[Message], None]


def main() -> int:
    """Do one job."""
    job, send = take_job()
    if job is None:
        return 2
    child_environment.hold(job.pop("keys", {}))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # Only the process that fetches from the Hub may use the network, if the user did not forbid it.
    os.environ["PLAYGROUND_HUB_OFFLINE"] = os.environ.get("HF_HUB_OFFLINE", "")
    # Progress bars and chatter are for terminals; the job's log keeps warnings.
    os.environ.update(
        HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="false"
    )
    # Threads that spin while they wait take the processor from whoever answers meanwhile, and from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    home = Path(job["home"])
    try:
        artifact = _run(job, home, _reporter(send))
    except PlaygroundError as error:
        return _fail(send, error)
    except OSError as error:
        return _fail(send, storage_error(home, error))
    except MemoryError:
        what = msg("There is not enough memory to prepare {model}", model=job["spec"]["name"])
        return _fail(send, StorageError(what, msg("Free some.")))
    except Exception as error:
        logging.exception("preparing %s failed", job["variant"])
        what = msg(
            "Preparing {model} failed ({kind}: {reason})",
            model=job["spec"]["name"],
            kind=type(error).__name__,
            reason=first_line(error),
        )
        return _fail(send, ExportError(what, msg("The log is in {folder}.", folder=home / "logs")))
    send({"artifact": artifact})
    return 0


def _run(job: dict[str, Any], home: Path, report: Progress) -> dict[str, Any]:
    from playground.export.pipeline import make

    spec, variant = ModelSpec.from_json(job["spec"]), Variant.from_json(job["variant"])
    # Calling off is a signal to the whole process group, so nothing here has to ask for it.
    return make(
        spec, variant, home, report, lambda: False, origin=job.get("prepared_from", ""), lent=job.get("lent", False)
    ).to_json()


def _reporter(send: Send) -> Progress:
    last_step, last_time = "", 0.0

    def report(step: Translatable, progress: float | None) -> None:
        nonlocal last_step, last_time
        now = time.monotonic()
        if step != last_step or now - last_time >= PROGRESS_INTERVAL_S:
            last_step, last_time = step, now
            send({"step": step.to_json(), "progress": progress})

    return report


def _fail(send: Send, error: PlaygroundError) -> int:
    logging.error("%s", error)
    send({"error": error.to_json()})
    return 1


if __name__ == "__main__":
    sys.exit(main())
