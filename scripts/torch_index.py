"""Where `pip install` takes torch from: PyTorch's own CPU index, or wherever pip looks by itself.

On Linux the default build of torch brings several GB of GPU libraries, which a product of CPU inference never loads.
PyTorch's CPU index has the same versions without them; pre-requirements.txt names it and the version, for a Space and
for this script alike. It is asked for torch alone. What follows comes from pip's usual index, which finds torch there.

    python scripts/torch_index.py [--torch auto|cpu|default] [PIP_ARGS …]

On stdout: the arguments of a `pip install` that has to go first, or nothing. On stderr: one line that says which build
is taken, and why. It runs before anything is installed, so it has nothing but the standard library.
"""

from __future__ import annotations

import argparse
import ast
import http.client
import re
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "pre-requirements.txt"
PATIENCE_S = 3.0
PAGE_BYTES = 65_536
"""Of a page that are looked at; PyTorch's names torch in its first lines."""
PYPI = "https://pypi.org/simple"
OWN_INDEX = ("index-url", "pypi-url", "extra-index-url", "no-index")
"""Settings of pip that say where packages may come from. A mirror is often the only one that is reached or allowed."""

_SHORT_INDEX = re.compile(r"-[qvhVUI]*i")
"""pip's -i, alone or behind other options of one letter that take no value: ``-qi URL``."""
COST = "on Linux it brings several GB of GPU libraries"


@dataclass(frozen=True)
class Wanted:
    """What pre-requirements.txt asks for: the CPU index, and torch with its version."""

    index: str
    torch: str


@dataclass(frozen=True)
class Choice:
    """Arguments for pip, empty where it looks by itself, and the line that says why."""

    arguments: tuple[str, ...]
    why: str


def wanted(requirements: Path = REQUIREMENTS) -> Wanted:
    """Read pre-requirements.txt; both lines must be there."""
    text = requirements.read_text(encoding="utf-8")
    index = re.search(r"^--index-url (\S+)$", text, flags=re.MULTILINE)
    torch = re.search(r"^torch==\S+$", text, flags=re.MULTILINE)
    if index is None or torch is None:
        raise SystemExit(f"{requirements} has no line '--index-url …' or no line 'torch==…': restore it.")
    return Wanted(index[1], torch[0])


def choose(
    torch: str, want: Wanted, pip: Mapping[str, str], *, system: str = sys.platform, gpu: bool = False
) -> Choice:
    """Decide where torch comes from.

    Args:
        torch: ``auto``, ``cpu`` (PyTorch's CPU index, whatever stands against it) or ``default``.
        pip: pip's own settings, from its configuration and its arguments.
        system: As ``sys.platform`` names it.
        gpu: Whether this machine has an NVIDIA GPU.
    """
    own = next((name for name in OWN_INDEX if _is_own(name, pip.get(name, ""))), None)
    if torch == "default":
        return Choice((), f"pip's default build, as TORCH=default asks; {COST}")
    if torch == "auto" and system != "linux":
        return Choice((), "pip's default build, which needs no GPU libraries on this system")
    if torch == "auto" and own:
        return Choice((), f"from pip's own index alone, because its settings name one ({own})")
    if torch == "auto" and gpu:
        return Choice((), f"pip's default build, because there is an NVIDIA GPU; {COST}, TORCH=cpu spares them")
    if trouble := unreachable(f"{want.index}/torch/", pip):
        return Choice((), f"pip's default build, because {want.index} {trouble}; {COST}")
    why = "TORCH=cpu asks for it" if torch == "cpu" else "no NVIDIA GPU here; TORCH=default takes pip's"
    return Choice(("--no-deps", "--index-url", want.index, want.torch), f"the CPU build of {want.index} ({why})")


def _is_own(name: str, value: str) -> bool:
    if name == "no-index":
        return value.lower() not in ("", "0", "false", "no", "off")
    return bool(value) and value.rstrip("/") != PYPI


def unreachable(address: str, pip: Mapping[str, str], patience_s: float = PATIENCE_S) -> str:
    """Why ``address`` is no page about torch that arrives within ``patience_s`` seconds; empty if it is one.

    Name look-up, proxy and handshake count too, which a socket's own timeout does not bound.
    """
    said: list[str] = []

    def ask() -> None:
        try:
            handlers: list[urllib.request.BaseHandler] = []
            if proxy := pip.get("proxy"):
                handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
            if cert := pip.get("cert"):
                context = ssl.create_default_context(cafile=cert)
                handlers.append(urllib.request.HTTPSHandler(context=context))
            with urllib.request.build_opener(*handlers).open(address, timeout=patience_s) as page:
                # A network that asks for a login first answers with a page of its own.
                fits = b"torch-" in page.read(PAGE_BYTES)
                said.append("" if fits else "answers with a page that does not offer torch")
        except urllib.error.HTTPError as error:
            said.append(f"answers with status {error.code}")
        except TimeoutError:
            pass
        except http.client.HTTPException as error:
            said.append(f"gives no answer of HTTP ({type(error).__name__})")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if not isinstance(reason, TimeoutError):
                said.append(f"can't be reached ({getattr(reason, 'strerror', None) or reason})")

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience_s)
    return said[0] if said else f"did not answer in {patience_s:g} s"


def pip_settings(arguments: Sequence[str]) -> dict[str, str]:
    """pip's settings that matter here: its configuration files and environment, with ``arguments`` on top."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    return parse_config(listed.stdout) | parse_arguments(arguments)


def parse_config(text: str) -> dict[str, str]:
    """Settings from the lines of ``pip config list``: ``global.index-url='…'``, ``:env:.proxy='…'``."""
    settings = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([\w-]+)=(.*)$", text, flags=re.MULTILINE):
            try:
                settings[name] = str(ast.literal_eval(value))
            except (ValueError, SyntaxError):
                settings[name] = value
    return settings


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Settings from pip's command line, with ``=`` or a space, and shortened as pip allows."""
    known = (*OWN_INDEX, "proxy", "cert")
    settings = {}
    for place, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if short := _SHORT_INDEX.match(argument):
            option, value = "--index-url", argument[short.end() :]
        match = [name for name in known if option.startswith("--") and f"--{name}".startswith(option)]
        if len(match) == 1:
            following = arguments[place + 1] if place + 1 < len(arguments) else ""
            settings[match[0]] = "1" if match[0] == "no-index" else value or following
    return settings


def has_nvidia(search: str | None = None, devices: Path = Path("/dev")) -> bool:
    """Whether the driver's tool is on the path or its first device is there."""
    return bool(shutil.which("nvidia-smi", path=search)) or (devices / "nvidia0").exists()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--torch", default="auto", choices=("auto", "cpu", "default"))
    options, pip_arguments = parser.parse_known_args()
    choice = choose(options.torch, wanted(), pip_settings(pip_arguments), gpu=has_nvidia())
    print(f"torch: {choice.why}.", file=sys.stderr, flush=True)
    print(*choice.arguments, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
