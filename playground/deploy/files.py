"""Which files of a checkout a Space is given: an allow-list, so that what nobody thought of stays at home.

Works on a checkout with git, where files that git does not track stay, and on a copy without.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from playground.system.child_environment import passed

DEPLOYED = (
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "SECURITY.md",
    "app.py",
    "pre-requirements.txt",
    "requirements.txt",
    "spaces.yaml",
    "playground/**/*",
    "docs/**/*",
)
"""What a Space needs to run, and what its README links to."""

ENDINGS = frozenset(
    {".py", ".pyi", ".typed", ".txt", ".md", ".yaml", ".json", ".jsonl", ".csv", ".pot", ".po", ".mo"}
    | {".c", ".h", ".so", ".css", ".js", ".html", ".svg", ".png", ".jpg", ".webp", ".ico", ".woff2"}
)
"""Of files in folders; anything else there (databases, archives, editors' copies) is nobody's program."""

BUILT = "playground/kernels/libraries"
"""What ``make wheel`` compiled; git does not track it and a Space needs no compiler with it."""

MAX_PICTURE_BYTES = 10_000_000
"""Of a file below docs."""


@dataclass(frozen=True)
class Chosen:
    """What is uploaded, and what of the same folders is not.

    Attributes:
        files, left_out: Paths below the root, sorted.
        tracked: Whether git said which files are the project's.
    """

    files: tuple[Path, ...]
    left_out: tuple[Path, ...]
    tracked: bool


def choose_files(root: Path) -> Chosen:
    """Decide for every file that ``DEPLOYED`` reaches. Links that lead out of the checkout are left out."""
    found = {path for pattern in DEPLOYED for path in root.glob(pattern) if path.is_file()}
    tracked = _tracked(root)
    taken: list[Path] = []
    left: list[Path] = []
    for path in sorted(found):
        name = path.relative_to(root)
        if any(part == "__pycache__" for part in name.parts):
            continue
        (taken if _wanted(root, path, tracked) else left).append(name)
    return Chosen(tuple(taken), tuple(left), tracked is not None)


def _wanted(root: Path, path: Path, tracked: frozenset[str] | None) -> bool:
    name = path.relative_to(root)
    if any(part.startswith(".") for part in name.parts) or not path.resolve().is_relative_to(root.resolve()):
        return False
    if len(name.parts) > 1 and path.suffix.lower() not in ENDINGS:
        return False
    if name.parts[0] == "docs" and path.stat().st_size > MAX_PICTURE_BYTES:
        return False
    return tracked is None or name.as_posix() in tracked or name.is_relative_to(BUILT)


def _tracked(root: Path) -> frozenset[str] | None:
    """The files that git knows; None where this is no checkout of git's, or git is not installed."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, timeout=60, env=passed()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return frozenset(done.stdout.decode("utf-8", "surrogateescape").split("\0")) - {""}
