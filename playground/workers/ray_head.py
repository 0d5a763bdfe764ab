"""The head of a Ray cluster on this machine, in a process of its own (``python -m playground.workers.ray_head``): what
Ray starts inherits all of the environment of whoever calls it, so it is called with one that was chosen.

It reads how many cores the cluster is to have, says where it is, and ends with whoever started it; Ray's processes end
with it.
"""

from __future__ import annotations

import logging
import sys

from playground.errors import first_line
from playground.system.child import decode, encode, end_with_parent, take_streams


def main() -> None:
    end_with_parent()
    commands, send, _ = take_streams()
    sys.stdout = sys.stderr
    line = commands.readline()
    if not line:
        return
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=decode(line)["cores"],
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        said = {"address": ray.get_runtime_context().gcs_address}
    except Exception as error:
        said = {"error": str(first_line(error))}
    send(encode(said))
    commands.read()  # until nobody needs it
    ray.shutdown()


if __name__ == "__main__":
    main()
