"""Builds the kernels for this processor: which instruction set, whose library, and whether what it computes is right.

The system's compiler makes one (one translation unit, two seconds, no library but C's own); where there is none, one
that came with the package is taken (``shipped``), if it is of this very source. Either is run on known numbers,
in a process of its own, before anybody uses it: compilers have bugs, and a crash must cost nobody an answer. Where
there is neither, or no instruction set the kernels are fast with, ONNX Runtime's operators do the work.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from playground.errors import Reason
from playground.kernels import shipped
from playground.messages import Translatable, foreign, msg
from playground.paths import python_path
from playground.system.child_environment import COMPILERS, LIBRARIES, passed

log = logging.getLogger(__name__)

SOURCE = shipped.SOURCE
UNIT = "program.c"
LIBRARY = "kernels.so"
"""The library's name beside the graph it was made for."""

OFF = "PLAYGROUND_KERNELS"
"""Set to ``off``, this variable leaves everything to ONNX Runtime; set to a name of ``LEVELS``, it takes that."""

REVISION = "7c41e0a95d2b"
"""What the kernels compute. Artifacts of another one get a library of this one, and are compared again. It changes when
a result changes by a bit, when libraries compiled before must not run any more, or when today's are so much faster that
prepared models should have them; not when the same is written otherwise. ``tests/kernels/test_sets.py`` holds the bits
of this one.
"""

OPTIONS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-DNDEBUG")
"""Sums are fused only where the source says so: one token must give the same bits alone and in company."""

LEVELS: Mapping[str, tuple[frozenset[str], tuple[str, ...]]] = {
    "avx512_vnni": (
        frozenset(("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni")),
        ("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni"),
    ),
    "avx2_vnni": (
        frozenset(("avx2", "fma", "f16c", "avx_vnni")),
        ("-mavx2", "-mfma", "-mf16c", "-mavxvnni"),
    ),
    "avx2": (frozenset(("avx2", "fma", "f16c")), ("-mavx2", "-mfma", "-mf16c")),
    "neon": (frozenset(("asimd", "asimddp")), ("-mcpu=generic+dotprod",)),
    "scalar": (frozenset(), ("-O2", "-DPG_SCALAR")),
}
"""Instruction sets from the best: what /proc/cpuinfo must name, and how a compiler is told. All give the same bits."""

UNASKED = ("avx512_vnni", "avx2_vnni", "avx2")
"""Sets that were measured to be faster than ONNX Runtime. The others are taken only where ``PLAYGROUND_KERNELS`` names
them: plain C is slower, and NEON was measured on no processor (docs/engine.md).
"""

NO_COMPILER = msg("there is no C compiler (install gcc or clang, or: pip install ziglang)")
COMPILE_S, CHECK_S = 120, 60


class KernelsUnavailable(Reason):
    """The kernels can't be used here, and why."""


@dataclass(frozen=True)
class Built:
    """A library that was tried here. Nothing is executed by its name alone: loaded are bytes with this checksum.

    Attributes:
        path: Where it lies.
        sha256: Of what the compiler wrote, in hexadecimal.
        origin: Where it comes from and who compiled it, for tool versions: ``package, zig 0.17.1`` or ``here, gcc``.
    """

    path: Path
    sha256: str
    origin: str = field(default="", compare=False)

    @classmethod
    def of(cls, path: Path, origin: str = "") -> Built:
        """What lies at ``path`` now: only for what this process has just compiled."""
        return cls(path, hashlib.sha256(path.read_bytes()).hexdigest(), origin)


CPUINFO = Path("/proc/cpuinfo")
_APPLE_SILICON = frozenset(("asimd", "asimddp"))
"""What every one of these processors has; macOS has no file that says so."""


def level(cpuinfo: Path = CPUINFO) -> str | None:
    """The instruction set to compile for: the one that ``PLAYGROUND_KERNELS`` names, if this processor has it, or the
    best of those that are taken unasked; None where there is none.
    """
    names = runnable(cpuinfo)
    if named := _named():
        return named if named in names else None
    return next((name for name in names if name in UNASKED), None)


def runnable(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """The instruction sets this processor has, from the best; ``scalar`` is always one."""
    flags = _flags(cpuinfo)
    return tuple(name for name, (wanted, _) in LEVELS.items() if wanted <= flags)


@functools.cache
def _flags(cpuinfo: Path) -> frozenset[str]:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return _APPLE_SILICON
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    named = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(named, ()))


def _named() -> str:
    return os.environ.get(OFF, "").strip().lower()


@functools.cache
def compiler() -> tuple[str, ...] | None:
    """The command of a C compiler: ``CC``, the system's, or the one that the package ziglang brings."""
    named = os.environ.get("CC", "").split()
    for command in (named, ["cc"], ["gcc"], ["clang"]):
        if command and (found := shutil.which(command[0])):
            return (found, *command[1:])
    if _has_zig():
        return (sys.executable, "-m", "ziglang", "cc")
    return None


def _has_zig() -> bool:
    from importlib.util import find_spec

    return find_spec("ziglang") is not None


def mistyped() -> Translatable | None:
    """What is wrong with ``PLAYGROUND_KERNELS`` wherever it is set; None where nothing is."""
    named = _named()
    if named in ("", "off", *LEVELS):
        return None
    return msg("{variable} is {name}, which is none of {known}", variable=OFF, name=named, known=["off", *LEVELS])


def obstacle() -> Translatable | None:
    """Why the kernels can't be used here, as far as that is known without compiling; None where they can."""
    named = _named()
    if named == "off":
        return msg("{variable} is off", variable=OFF)
    if wrong := mistyped():
        return wrong
    if platform.system() not in ("Linux", "Darwin"):
        return msg("there are none for this system")
    isa = level()
    if isa is None:
        if named:
            return msg("{variable} is {name}, which this processor does not have", variable=OFF, name=named)
        return msg(
            "there are none that are fast on this processor and system ({variable}=scalar compiles them as plain C)",
            variable=OFF,
        )
    if compiler() is None and _of_the_package(isa) is None:
        return NO_COMPILER
    return None


@functools.cache
def identity() -> str:
    """What an artifact checked with the kernels depends on: what they compute and the instruction set; or ``none``."""
    return "none" if obstacle() else f"{level()}-{REVISION}"


def build(folder: Path, isa: str | None = None) -> Built:
    """Put a library into ``folder``, compiled now or the package's, and try it out. Whatever had its name there goes.
    The system's compiler comes first: gcc's libraries read prompts 1.17 to 1.25 × as fast as those of zig, which makes
    the package's (docs/engine.md). What fails leaves it to the next way.

    Args:
        isa: A key of ``LEVELS``; what ``level`` says if None.

    Raises:
        KernelsUnavailable: There is neither library nor compiler, it failed, or the result does not compute what it
            should.
        OSError: The disk.
    """
    if isa is None and (reason := obstacle()):
        raise KernelsUnavailable(reason)
    isa = isa or level() or "scalar"
    command, came, target = compiler(), _of_the_package(isa), folder / LIBRARY
    ways: list[Callable[[], Built]] = [functools.partial(_compiled, isa, target)] if command or not came else []
    if came:
        ways.insert(0 if command and "ziglang" in command else len(ways), functools.partial(_copied, came, target))
    for way in ways[:-1]:
        try:
            return _tried(way())
        except KernelsUnavailable as error:
            log.warning("a library of kernels is not used: %s", error)
    return _tried(ways[-1]())


def inputs(isa: str | None = None) -> str:
    """What ``build`` makes a library of now, and tries it by, as one hexadecimal number: the source and its options,
    the package's own library, the trial, the compiler (its file, its words, what it is told by variables) and what the
    processor can do. Another number is another library, or one that has to be tried again.

    Args:
        isa: A key of ``LEVELS``; what ``level`` says if None.
    """
    isa = isa or level() or "scalar"
    command, came = compiler(), _of_the_package(isa)
    trial = [Path(__file__).with_name(name).read_bytes() for name in ("trial.py", "layout.py", "library.py")]
    told = {name: value for name, value in passed(COMPILERS).items() if re.fullmatch(COMPILERS, name)}
    decides = (
        REVISION,
        shipped.source_digest(SOURCE),
        [hashlib.sha256(each).hexdigest() for each in trial],
        OPTIONS,
        (isa, *LEVELS[isa][1]),
        came and (came.sha256, came.compiler),
        command and (command, _about(command)),
        sorted(told.items()),
        (platform.system(), platform.machine(), platform.libc_ver()),
        sorted(_flags(CPUINFO)),
    )
    return hashlib.sha256(repr(decides).encode()).hexdigest()


def _about(command: tuple[str, ...]) -> tuple[object, ...]:
    """Which compiler a command is: two of the same name differ in their file or in what they say of themselves."""
    file = Path(command[0]).resolve()
    said: object
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, timeout=CHECK_S, check=False, env=_env())
        said = (done.returncode, done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        said = type(error).__name__
    with contextlib.suppress(OSError):
        return str(file), file.stat().st_size, file.stat().st_mtime_ns, said
    return str(file), said


def _of_the_package(isa: str) -> shipped.Shipped | None:
    """The package's library; None where somebody names a compiler."""
    return None if os.environ.get("CC") else shipped.find(isa, REVISION, SOURCE)


def _copied(came: shipped.Shipped, target: Path) -> Built:
    content = came.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != came.sha256:
        raise KernelsUnavailable(msg("{file} is not what the package lists", file=came.path.name))
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    return Built(target, came.sha256, f"package, {came.compiler}")


def _compiled(isa: str, target: Path) -> Built:
    command = compiler()
    if command is None:
        raise KernelsUnavailable(NO_COMPILER)
    target.unlink(missing_ok=True)  # a compiler may write through a link to somebody else's file
    arguments = [*OPTIONS, *LEVELS[isa][1], str(SOURCE / UNIT), "-o", str(target), "-lm"]
    name = "zig" if "ziglang" in command else Path(command[0]).name
    said = _run([*command, *arguments], COMPILE_S, msg("{compiler} failed", compiler=name))
    if not target.is_file():
        words = foreign(said) if said else msg("it said nothing")
        raise KernelsUnavailable(msg("{compiler} made no library ({said})", compiler=name, said=words))
    return Built.of(target, f"here, {name}")


def _tried(built: Built) -> Built:
    """``built``, if it computes what it should; if not, it is gone.

    Raises:
        KernelsUnavailable: It does not, or crashes.
    """
    trial = [sys.executable, "-P", "-m", "playground.kernels.trial", str(built.path), built.sha256]
    try:
        _run(trial, CHECK_S, msg("the trial failed"))
    except KernelsUnavailable:
        built.path.unlink(missing_ok=True)
        raise
    return built


def _run(command: list[str], seconds: float, what: Translatable) -> str:
    """The last line it said.

    Raises:
        KernelsUnavailable: It ended otherwise than well.
    """
    try:
        # A compiler speaks the encoding of its own locale.
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False, env=_env()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(msg("{what} ({error})", what=what, error=type(error).__name__)) from error
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    if done.returncode:
        said = said.replace(str(SOURCE), "source")[-200:]
        if not said:
            raise KernelsUnavailable(msg("{what} (exit code {code})", what=what, code=done.returncode))
        raise KernelsUnavailable(msg("{what} (exit code {code}: {said})", what=what, code=done.returncode, said=said))
    return said


def _env() -> dict[str, str]:
    return {**passed(COMPILERS, LIBRARIES), "PYTHONPATH": python_path(os.environ)}
