"""Libraries that came with the package, compiled beforehand for every instruction set by ``scripts/build_kernels.py``.

They are in wheels, not in the repository. A file of the package lists them with their checksums, what they compute and
the source they were made of; of another source, or another system or processor, none is there. A listed library is a
candidate and no more: it is tried and compared as one that was compiled here. The module loads nothing.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import re
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("source")
FOLDER = Path(__file__).with_name("libraries")
LIST = "libraries.json"

_SYSTEMS = {"Linux": "linux", "Darwin": "macos"}
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Shipped:
    """A library of the package.

    Attributes:
        path: Where it lies.
        sha256: What the list says of it, in hexadecimal.
        compiler: What made it: a name and a version.
    """

    path: Path
    sha256: str
    compiler: str


def file_name(system: str, machine: str, isa: str) -> str:
    """What a library is called: ``linux-x86_64-avx2.so``."""
    return f"{system}-{machine}-{isa}.so"


@functools.cache
def source_digest(source: Path = SOURCE) -> str:
    """The SHA-256 of all of the kernels' source, names included; asked of each folder once a process."""
    found = hashlib.sha256()
    for path in sorted(source.iterdir()):
        if path.suffix in (".c", ".h"):
            content = path.read_bytes()
            found.update(f"{path.name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def find(isa: str, revision: str, source: Path = SOURCE) -> Shipped | None:
    """The package's library for this system and processor; None where it has none, or one of another source.

    Args:
        isa: The instruction set.
        revision: What it must compute.
        source: What it must be made of.
    """
    system, machine = _SYSTEMS.get(platform.system()), _MACHINES.get(platform.machine().lower())
    if system is None or machine is None:
        return None
    name = file_name(system, machine, isa)
    try:
        listed = json.loads((FOLDER / LIST).read_text(encoding="utf-8"))
        sha256, compiler = listed["libraries"].get(name), str(listed["compiler"])
        if listed["revision"] != revision or listed["source"] != source_digest(source):
            return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256) or not (FOLDER / name).is_file():
        return None
    return Shipped(FOLDER / name, sha256, compiler)
