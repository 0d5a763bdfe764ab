"""A C compiler that compiles the same only once while the tests run: preparing a model compiles the kernels, five
seconds of processor time each, and the tests prepare hundreds of tiny ones from one and the same source.

What is the same is told as ccache does: by the command without its output, and by the preprocessed text, which holds
every header. Anything but one unit that is compiled to one file without a word goes to the compiler itself.

As a program: ``python compiler.py FOLDER COMPILER… -- ARGUMENT…``. It imports nothing of ours: it has to start fast.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

READ = (
    "CPATH",
    "C_INCLUDE_PATH",
    "LIBRARY_PATH",
    "COMPILER_PATH",
    "GCC_EXEC_PREFIX",
    "SOURCE_DATE_EPOCH",
    "LANG",
    "PATH",
)
"""Variables that compilers read."""


def install(folder: Path) -> Path | None:
    """A command that does as the system's C compiler does, and keeps what it makes in ``folder``; None without one."""
    named = shlex.split(os.environ.get("CC", ""))
    for real in (named, ["cc"], ["gcc"], ["clang"]):
        if real and (found := shutil.which(real[0])):
            command = folder / Path(found).name
            own = [sys.executable, "-I", "-S", __file__, str(folder), found, *real[1:], "--"]
            command.write_text(f'#!/bin/sh\nexec {shlex.join(own)} "$@"\n', encoding="utf-8")
            command.chmod(0o755)
            return command
    return None


def main(folder: Path, compiler: Sequence[str], arguments: Sequence[str]) -> int:
    units = [each for each in arguments if each.endswith(".c")]
    if arguments.count("-o") != 1 or len(units) != 1 or {"-c", "-E", "-S", "-M", "-MD", "-MMD"} & {*arguments}:
        os.execv(compiler[0], [*compiler, *arguments])
    at = arguments.index("-o") + 1
    target, others = Path(arguments[at]), [*arguments[: at - 1], *arguments[at + 1 :]]
    seen = subprocess.run([*compiler, *others, "-E"], capture_output=True, check=False)
    if seen.returncode or seen.stderr:
        os.execv(compiler[0], [*compiler, *arguments])
    said = repr((compiler, others, Path.cwd(), [os.environ.get(name) for name in READ]))
    kept = folder / hashlib.sha256(said.encode() + seen.stdout).hexdigest()
    if not kept.exists():
        done = subprocess.run([*compiler, *arguments], capture_output=True, check=False)
        if done.returncode or done.stderr or done.stdout or not target.is_file():
            sys.stdout.buffer.write(done.stdout)
            sys.stderr.buffer.write(done.stderr)
            return done.returncode if done.returncode >= 0 else 1
        _copy(target, kept)
        return 0
    target.unlink(missing_ok=True)
    _copy(kept, target)
    return 0


def _copy(source: Path, target: Path) -> None:
    """Nobody ever sees a part of it."""
    number, name = tempfile.mkstemp(dir=target.parent)
    os.close(number)
    shutil.copy(source, name)
    Path(name).replace(target)


if __name__ == "__main__":
    _at = sys.argv.index("--")
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:_at], sys.argv[_at + 1 :]))
