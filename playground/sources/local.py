"""``path:`` sources: a GGUF file, or a folder with safetensors or ONNX graphs, that already lie on this machine.

Nothing is copied or changed. Files that Python would unpickle (.bin, .pt, …) are refused: loading them can run
whatever code their author put in.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from playground.catalog.weight_files import INDEX_END, is_other_gguf, is_pickled, parts_of, weights_of, why_none
from playground.errors import ChecksumError, SourceError
from playground.messages import Translatable, msg
from playground.records import ModelSpec
from playground.sources.files import FileRecord, Progress, storage_errors, write_text

TEXTS = (".json", ".jinja", ".txt", ".model")
TEMPLATES = "additional_chat_templates"
DEEPEST = 2
"""How far below a folder weights are looked for."""
MAX_NAMES = 20_000


def present(rest: str, home: Path) -> tuple[tuple[Path, ...], str] | None:
    """The files, if they were hashed before and are untouched since."""
    try:
        files = _files(rest, rest)
    except SourceError:
        return None
    known = _index(home, rest)
    records = {name: FileRecord.from_json(record) for name, record in known.items()}
    names = {_name(path, rest): path for path in files}
    if set(records) == set(names) and all(records[name].untouched(path) for name, path in names.items()):
        return files, _revision(records)
    return None


def fetch(spec: ModelSpec, rest: str, home: Path, progress: Progress) -> tuple[tuple[Path, ...], str]:
    """Check what lies at the path and take its checksum. See ``sources.fetch``.

    Raises:
        SourceError: Nothing is there, or nothing that can be used.
        ChecksumError: It is not what the catalogue promises.
        StorageError: The record of its checksums can't be written.
    """
    files = _files(rest, spec.name)
    found = present(rest, home)
    if found is None:
        progress(msg("verifying"), None)
        with storage_errors(home):
            records = {_name(path, rest): FileRecord.of(path) for path in files}
            index = _index_file(home, rest)
            index.parent.mkdir(parents=True, exist_ok=True)
            write_text(index, json.dumps({name: record.to_json() for name, record in records.items()}, indent=1))
        found = files, _revision(records)
    if spec.revision.startswith("sha256:") and spec.revision != found[1]:
        raise ChecksumError(
            msg(
                "The file of {model} is not the one the catalogue promises ({checksum}…)",
                model=spec.name,
                checksum=spec.revision[:19],
            ),
            msg("Put the promised file there, or take the revision out of the catalogue."),
        )
    return found


def _files(rest: str, name: str) -> tuple[Path, ...]:
    """The files that make the model, weights first.

    Raises:
        SourceError: Nothing is there, or nothing that can be used.
    """
    path = Path(rest).expanduser().absolute()
    if path.is_file():
        return _gguf(path, name)
    if not path.is_dir():
        raise SourceError(
            msg("{model}: there is nothing at {path}", model=name, path=path),
            msg("Check the path after path: in the catalogue."),
        )
    names = _names(path)

    def read(index: str) -> str:
        try:
            return (path / index).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SourceError(
                msg(
                    "{model}: {file} in {path} can't be read ({error})",
                    model=name,
                    file=index,
                    path=path,
                    error=type(error).__name__,
                ),
                msg("Get the file again."),
            ) from error

    def choose(file: str) -> Translatable:
        return msg("Name one of them: path:{path}/{file}", path=path, file=file)

    where = msg("{model}: the folder {path}", model=name, path=path)
    weights = weights_of(where, names, read, choose)
    if weights and weights.format == "gguf":
        return tuple(path / file for file in weights.files)
    files = [path / file for file in weights.files] if weights else _graphs(path)
    if not files:
        if other := why_none(names):
            raise SourceError(
                msg("{folder} {problem}", folder=where, problem=other), msg("Put the model's own weights there.")
            )
        raise SourceError(
            msg("{folder} holds no .safetensors, .gguf or .onnx file", folder=where), _reason(*map(Path, names))
        )
    inside = path / weights.folder if weights else path
    folder = inside if (inside / "config.json").is_file() else path
    if not (folder / "config.json").is_file():
        raise SourceError(
            msg("{folder} holds no config.json", folder=where), msg("Copy it from the model's repository.")
        )
    index = [path / weights.index] if weights and weights.index else []
    texts = sorted(file for file in folder.iterdir() if file.suffix in TEXTS and file not in index)
    # Other lists of weights name files that are no part of the model.
    texts = [file for file in texts if not file.name.endswith(INDEX_END)]
    templates = sorted((folder / TEMPLATES).glob("*.jinja"))
    return (*files, *index, *texts, *templates)


def _gguf(path: Path, name: str) -> tuple[Path, ...]:
    """The GGUF file at ``path``, with the other parts where it is one of several."""
    if path.suffix.lower() != ".gguf":
        raise SourceError(msg("{model}: {file} is not a GGUF file", model=name, file=path.name), _reason(path))
    if is_other_gguf(path.name):
        raise SourceError(
            msg(
                "{model}: {file} is a part that reads images or adapts a model, not a language model",
                model=name,
                file=path.name,
            ),
            msg("Name the GGUF of the model itself; images are not served."),
        )
    return tuple(path.parent / part for part in parts_of(path.name, [each.name for each in path.parent.iterdir()]))


def _names(folder: Path) -> list[str]:
    """Files in a folder and a few levels below it, with ``/``."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder)
        if len(below.parts) >= DEEPEST:
            folders.clear()
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        found += [(below / file).as_posix() for file in files]
        if len(found) > MAX_NAMES:
            break
    return found


def _name(path: Path, rest: str) -> str:
    """The file's name below the folder; graphs may lie in a folder of their own."""
    top = Path(rest).expanduser().absolute()
    return path.relative_to(top).as_posix() if path != top and path.is_relative_to(top) else path.name


def _graphs(folder: Path) -> list[Path]:
    """ONNX graphs and their data files, where repositories keep them."""
    graphs = [file for place in (folder, folder / "onnx") for file in sorted(place.glob("*.onnx"))]
    data = [file for place in (folder, folder / "onnx") for file in sorted(place.glob("*.onnx[_.]data*"))]
    return graphs + data if graphs else []


def _reason(*paths: Path) -> Translatable:
    if any(is_pickled(path.name) for path in paths):
        return msg("Pickled weights can run code when they are loaded and are refused; convert them to safetensors.")
    return msg("Name a .gguf file, or a folder with config.json, tokenizer.json and .safetensors files.")


def _revision(records: dict[str, FileRecord]) -> str:
    if len(records) == 1:
        return f"sha256:{next(iter(records.values())).sha256}"
    lines = "".join(f"{record.sha256}  {name}\n" for name, record in sorted(records.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _index_file(home: Path, rest: str) -> Path:
    place = os.fspath(Path(rest).expanduser().absolute())
    return home / "sources" / f"path-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"


def _index(home: Path, rest: str) -> dict[str, dict[str, object]]:
    try:
        document = json.loads(_index_file(home, rest).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
