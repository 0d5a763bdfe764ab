"""The kernels compiled for every system and instruction set, for wheels, by the C compiler of the package ziglang.

    python scripts/build_kernels.py                    write playground/kernels/libraries, which wheels pack
    python scripts/build_kernels.py --only NAME        one library alone, e.g. linux-x86_64-avx2; may be given again
    python scripts/build_kernels.py --into FOLDER      write elsewhere

The same source and the same ziglang give the same bytes on any machine. libraries.json lists each library's SHA-256,
what is computed and the source: changed source is not mistaken for what was compiled (playground/kernels/shipped.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playground.kernels import building, shipped  # noqa: E402

TARGETS = {
    ("linux", "x86_64"): ("x86_64-linux-gnu.2.17", ("avx512_vnni", "avx2_vnni", "avx2", "scalar")),
    ("linux", "aarch64"): ("aarch64-linux-gnu.2.17", ("neon", "scalar")),
    ("macos", "aarch64"): ("aarch64-macos.11.0", ("neon", "scalar")),
}
"""By system and processor: zig's name, with the oldest C library or system that will do, and the sets there are."""

STRIPPED = ("-s", "-g0")
LINUX = ("-Wl,--build-id=none", "-Wl,-soname,kernels.so")
MACOS = ("-Wl,-install_name,kernels.so",)


def libraries() -> dict[str, tuple[str, ...]]:
    """The compiler's arguments for each library, by its name."""
    found = {}
    for (system, machine), (target, sets) in TARGETS.items():
        more = LINUX if system == "linux" else MACOS
        for isa in sets:
            options = [*building.OPTIONS, *building.LEVELS[isa][1], *STRIPPED, *more]
            name = shipped.file_name(system, machine, isa)
            found[name] = ("-target", target, *options, building.UNIT, "-o", name, "-lm")
    return found


def build(into: Path, names: Iterable[str]) -> None:
    """Compile the libraries called ``names`` and write the list of what there is now.

    Raises:
        SystemExit: The compiler failed; says what it said.
    """
    every = libraries()
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "source")
        shutil.copytree(building.SOURCE, work)
        source = shipped.source_digest(work)
        # Names alone reach the compiler, from one folder: a path of this machine would be in no library anyhow.
        for name in names:
            command = [sys.executable, "-m", "ziglang", "cc", *every[name]]
            done = subprocess.run(
                command, cwd=work, capture_output=True, text=True, errors="replace", check=False, env=os.environ
            )
            if done.returncode or not (work / name).is_file():
                raise SystemExit(f"{name}: {done.stderr.strip()[-2000:] or 'the compiler made nothing'}")
            made[name] = (work / name).read_bytes()
            print(f"{hashlib.sha256(made[name]).hexdigest()}  {name}  {len(made[name]):,} bytes", flush=True)
    shutil.rmtree(into, ignore_errors=True)  # what was made of another source must not stay
    into.mkdir(parents=True)
    for name, content in made.items():
        (into / name).write_bytes(content)
    listed = {
        "revision": building.REVISION,
        "source": source,
        "compiler": f"zig {version('ziglang')}",
        "libraries": {name: hashlib.sha256(content).hexdigest() for name, content in made.items()},
    }
    (into / shipped.LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    known = {name.removesuffix(".so"): name for name in libraries()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", choices=list(known), metavar="NAME", help="one library alone")
    parser.add_argument("--into", type=Path, default=shipped.FOLDER, metavar="FOLDER", help="instead of the package")
    given = parser.parse_args()
    build(given.into, [known[name] for name in given.only or known])
    return 0


if __name__ == "__main__":
    sys.exit(main())
