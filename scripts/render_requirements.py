"""requirements*.txt from pyproject.toml, which says what is installed.

pip reads dependency groups since 25.1 only, and a Space and `make` read requirements.txt.

    python scripts/render_requirements.py            write what differs
    python scripts/render_requirements.py --check    say what differs; code 1 if anything does

The comments above an entry or a group in pyproject.toml go along. It also compares torch in pre-requirements.txt, and
uv's address of PyTorch's CPU index, which pip reads there.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FROM = "# Rendered from pyproject.toml by scripts/render_requirements.py: change it there.\n"
FILES = {
    "requirements.txt": ("dependencies", "# What a Space and a laptop install.\n"),
    "requirements-dev.txt": ("dev", "-r requirements.txt\n"),
    "requirements-bench.txt": ("bench", "-r requirements.txt\n"),
    "requirements-audit.txt": ("audit", ""),
}


def render(pyproject: str) -> dict[str, str]:
    """The text of each file."""
    return {name: FROM + above + _entries(pyproject, key) for name, (key, above) in FILES.items()}


def _entries(text: str, key: str) -> str:
    """The entries of an array of ours with the comments around them, one a line.

    Comments are lost to a TOML parser, so the lines are read; that none was missed is compared with the parser's view.
    """
    array = rf"^(?P<above>(?:#[^\n]*\n)*){key} = \[(?P<body>.*?)\]$"
    found = re.search(array, text, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"pyproject.toml has no array {key}: restore it.")
    above = "" if key == "dependencies" else found["above"]
    lines = [re.sub(r'^"(.*)",?$', r"\1", line.strip()) for line in found["body"].splitlines() if line.strip()]
    project = tomllib.loads(text)
    parsed = project["project"]["dependencies"] if key == "dependencies" else project["dependency-groups"][key]
    if [line for line in lines if not line.startswith("#")] != parsed:
        raise SystemExit(f"pyproject.toml: write one entry of {key} a line, in double quotes.")
    return above + "".join(f"{line}\n" for line in lines)


def problems(root: Path) -> list[str]:
    """What differs, one sentence each."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    found = [
        f"{name} differs from pyproject.toml: run `python scripts/render_requirements.py`."
        for name, wanted in render(text).items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != wanted
    ]
    project, before = tomllib.loads(text), (root / "pre-requirements.txt").read_text(encoding="utf-8").splitlines()
    torch = next(entry for entry in project["project"]["dependencies"] if entry.startswith("torch=="))
    if torch not in before:
        found.append(f"pre-requirements.txt has no line {torch}, which pyproject.toml asks for.")
    if not all(f"--index-url {index['url']}" in before for index in project["tool"]["uv"]["index"]):
        found.append("pre-requirements.txt and tool.uv.index of pyproject.toml name different indexes.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    if not options.check:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        for name, wanted in render(text).items():
            (ROOT / name).write_text(wanted, encoding="utf-8")
    found = problems(ROOT)
    print("\n".join(found) if found else "requirements*.txt are as pyproject.toml says.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
