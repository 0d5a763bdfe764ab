"""Files that a suite names by ``file://``: below the suite's own folder, of a bounded size, and never for strangers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from playground.errors import UsageError
from playground.messages import foreign, msg
from playground.suites import decoding
from playground.suites.spots import Limits, Spot, short

PREFIX = "file://"
SCRIPTS = (".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".py", ".rb", ".sh", ".bash", ".pl")


@dataclass(frozen=True)
class Folder:
    """Where a suite's files are.

    Attributes:
        path: The suite's own folder; None where there is none, or its files are nobody's business.
    """

    path: Path | None
    limits: Limits

    def read(self, reference: str, spot: Spot) -> tuple[str, str]:
        """The name of a file and its text.

        Raises:
            UsageError: It is outside of the folder, no file, too large, a script; or there is no folder.
        """
        name = reference.removeprefix(PREFIX)
        if self.path is None:
            raise spot.error(
                msg("{reference} is not read here", reference=short(reference)),
                msg("Write its text into the file; `playground suite` reads files beside a suite."),
            )
        if any(f"{suffix}:" in f"{name}:" for suffix in SCRIPTS):
            raise spot.error(
                msg("{reference} is a script, and scripts are not run", reference=short(reference)),
                msg("Write what it makes into a text, CSV or JSONL file."),
            )
        if any(sign in name for sign in "*?["):
            raise spot.error(
                msg("{reference} stands for several files", reference=short(reference)), msg("Name each of them.")
            )
        return name, self._text(name, reference, spot)

    def _text(self, name: str, reference: str, spot: Spot) -> str:
        assert self.path is not None
        shown = short(reference)
        try:
            root = self.path.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                raise spot.error(
                    msg("{reference} is outside of the suite's folder", reference=shown),
                    msg("Move it below {folder}.", folder=root.name or str(root)),
                )
            if not path.is_file():
                raise spot.error(msg("there is no file {reference}", reference=shown), msg("Check its name."))
            return decoding.text_of(read_bytes(path, spot, self.limits), Spot(name), self.limits)
        except (OSError, ValueError) as error:
            said = foreign(getattr(error, "strerror", "") or type(error).__name__)
            raise spot.error(
                msg("{reference} can't be read ({said})", reference=shown, said=said), msg("Check the file.")
            ) from error


def read_bytes(path: Path, spot: Spot, limits: Limits) -> bytes:
    """The bytes of a file, if it is not much larger than the limit; ``decoding`` says the rest.

    Raises:
        UsageError: It is more than four times as large.
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        data = file.read(limits.max_bytes * 4 + 1)
    if len(data) > limits.max_bytes * 4:
        raise _huge(spot, limits)
    return data


def _huge(spot: Spot, limits: Limits) -> UsageError:
    return spot.error(
        msg("it is larger than {most:.0f} MB", most=limits.max_bytes / 1e6), msg("Split the file into several.")
    )
