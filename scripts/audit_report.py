"""What pip-audit found, and what it could not look up: ``python scripts/audit_report.py FILE`` (its JSON)."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    """Print the report.

    Returns:
        0 where everything was looked up and nothing is known; 1 where something is known; 2 where a package, or all of
        them, could not be looked up.
    """
    try:
        found = json.loads(Path(argv[0]).read_text(encoding="utf-8"))["dependencies"]
    except (OSError, ValueError, KeyError, IndexError):
        print("pip-audit gave no answer: its data can't be had here.", file=sys.stderr)
        return 2
    known = [(each, weakness) for each in found for weakness in each.get("vulns", ())]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    for each, weakness in known:
        mended = ", ".join(weakness.get("fix_versions", ())) or "no version"
        print(f"{each['name']} {each['version']}: {weakness['id']}, mended in {mended}")
    print(f"{len(found) - len(skipped)} of {len(found)} packages looked up, {len(known)} known weaknesses.")
    if skipped:
        print(f"Not looked up, the index does not tell of them: {', '.join(sorted(skipped))}", file=sys.stderr)
    return 1 if known else 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
