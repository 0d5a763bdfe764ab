"""Writes docs/families.md: which way serves each family in each precision, and how exactly.

    python -m tests.families [--home FOLDER]

About two minutes; the first run installs optimum's overlay below the home (a temporary one, if none is given).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

from tests.families import speed
from tests.families.report import PAGE, page
from tests.families.sweep import page as sweep_page


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.families", description=__doc__.splitlines()[0])
    parser.add_argument("--home", type=Path, help="PLAYGROUND_HOME to work in")
    options = parser.parse_args()
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        text = page(
            Path(folder) / "models", options.home or Path(folder) / "home", lambda line: print(line, flush=True)
        )
    had = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text("\n".join(filter(None, (text, speed.kept(had), sweep_page.kept(had)))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
