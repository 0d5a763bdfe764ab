"""The hosted Space's configuration: spaces.yaml → README front matter, and the check that all files agree.

A Space is configured by the YAML block on top of README.md; nothing on the Hub reads spaces.yaml. Here spaces.yaml is
the one source, and that block is rendered from its ``space`` part. The keys are those of the Spaces configuration
reference, https://huggingface.co/docs/hub/spaces-config-reference. The module knows nothing of how models run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from playground.catalog.entries import Catalog, CatalogEntry, load_catalog
from playground.config import validation
from playground.config.endpoints import load_remotes
from playground.errors import ConfigError, UsageError
from playground.messages import Translatable, msg

HUB_LOGIN = "hugging-face"
"""The ``app.login`` that takes OAuth of the Hub's."""
OAUTH = "hf_oauth"


def front_matter(space: dict[str, Any]) -> str:
    """The block between (and with) the ``---`` lines."""
    body = yaml.safe_dump(space, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{body}---\n"


def with_login(space: dict[str, Any], app: Any) -> dict[str, Any]:
    """The ``space`` block with what ``app.login`` asks of it: the Hub gives OAuth to Spaces that say so."""
    asks = isinstance(app, dict) and app.get("login") == HUB_LOGIN
    return {**space, OAUTH: True} if asks and OAUTH not in space else space


def split_readme(text: str) -> tuple[str, str]:
    """Front matter (empty if there is none) and the rest."""
    match = re.match(r"---\r?\n.*?^---\r?\n", text, flags=re.DOTALL | re.MULTILINE)
    return (match[0], text[match.end() :]) if match else ("", text)


def render_readme(space_file: Path, readme: Path) -> bool:
    """Write the block on top of the README and keep the rest; returns whether it changed.

    Raises:
        ConfigError: spaces.yaml has no ``space`` block, or the README can't be read or written.
    """
    wanted = front_matter(space_block(space_file))
    text = read_text(readme) if readme.exists() else ""
    block, rest = split_readme(text)
    if block == wanted:
        return False
    try:
        readme.write_text(wanted + rest, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            msg("{file} can't be written ({error})", file=readme, error=error.strerror),
            msg("Check its permissions."),
        ) from error
    return True


def check_space(space_file: Path, root: Path, catalog_file: Path) -> list[Translatable]:
    """What disagrees, one sentence each; an empty list is good."""
    space = space_block(space_file)
    problems = _shape_problems(space, space_file.name)
    if split_readme(read_text(root / "README.md"))[0] != front_matter(space):
        problems.append(
            msg(
                "README.md's front matter differs from {file}: run `playground space render`.",
                file=space_file.name,
            )
        )
    pin = _pin(root / "requirements.txt", "gradio")
    if space.get("sdk_version") != pin:
        version = space.get("sdk_version")
        if pin:
            said = msg(
                "{file}: sdk_version is {version}, but requirements.txt pins gradio {pin}.",
                file=space_file.name,
                version=version,
                pin=pin,
            )
        else:
            said = msg(
                "{file}: sdk_version is {version}, but requirements.txt does not pin gradio.",
                file=space_file.name,
                version=version,
            )
        problems.append(said)
    torch, first = _pin(root / "requirements.txt", "torch"), _pin(root / "pre-requirements.txt", "torch")
    if torch != first:
        problems.append(
            msg("pre-requirements.txt pins torch {first}, but requirements.txt {then}.", first=first, then=torch)
        )
    app_file = space.get("app_file")
    if isinstance(app_file, str) and not (root / app_file).is_file():
        problems.append(msg("{file}: app_file {app_file} does not exist.", file=space_file.name, app_file=app_file))
    problems += _deploy_problems(space_file)
    problems += _login_problems(space_file, space, root / "README.md")
    return problems + _model_problems(space_file, space, catalog_file)


def _deploy_problems(space_file: Path) -> list[Translatable]:
    """What ``deploy`` has that no Space can be given: it would be told by the deployment alone."""
    from playground.config.space_schema import DeployBlock

    found = validation.read_yaml(space_file).get("deploy") or {}
    return [each.message for each in validation.problems(DeployBlock, found, f"{space_file.name}: deploy")]


def _login_problems(space_file: Path, space: dict[str, Any], readme: Path) -> list[Translatable]:
    """What a Space lacks for the login that ``app.login`` names."""
    app, name = _app_block(space_file), space_file.name
    login = app.get("login")
    if login == "password":
        deploy = validation.read_yaml(space_file).get("deploy")
        if "PLAYGROUND_USERS" not in ((isinstance(deploy, dict) and deploy.get("secrets")) or []):
            return [msg("{file}: app.login is password, but deploy.secrets does not name PLAYGROUND_USERS.", file=name)]
    if login != HUB_LOGIN:
        return []
    problems: list[Translatable] = []
    if space.get(OAUTH) is not True:
        problems.append(msg("{file}: app.login is hugging-face, but space.hf_oauth is not true.", file=name))
    elif not re.search(r"(?m)^hf_oauth: true\s*$", split_readme(read_text(readme))[0]):
        problems.append(
            msg("README.md's front matter has no hf_oauth: true, which app.login of {file} needs.", file=name)
        )
    if space.get("hf_oauth_scopes"):
        problems.append(
            msg("{file}: space.hf_oauth_scopes asks visitors for more than the login needs: leave it out.", file=name)
        )
    if app.get("audience") == "own":
        problems.append(msg("{file}: app.login is hugging-face, but app.audience is own.", file=name))
    return problems


def _shape_problems(space: dict[str, Any], name: str) -> list[Translatable]:
    """Every key by itself, so that one mistake does not hide the next."""
    from playground.config.space_schema import SpaceBlock

    return [each.message for each in validation.problems(SpaceBlock, space, f"{name}: space")]


def served_words(space_file: Path) -> Translatable:
    """Which models a Space serves, with the Hub and without.

    Raises:
        ConfigError: spaces.yaml can't be read.
    """
    app = _app_block(space_file)
    own, always = app.get("space_models"), app.get("models")
    if not own:
        return msg("A Space serves {models}.", models=always or [])
    return msg("A Space serves {models}; where the Hub can't be reached, {others}.", models=own, others=always or [])


def _model_problems(space_file: Path, space: dict[str, Any], catalog_file: Path) -> list[Translatable]:
    """The served models are in the catalogue, those of a Space of its own suit one, and the Space's page names the
    upstream models of both.
    """
    app = _app_block(space_file)
    catalog = load_catalog(catalog_file, load_remotes(app.get("remotes"), {}, space_file.name))
    if not isinstance(app.get("models"), list) or not app["models"]:
        return [msg("{file}: app.models lists no model.", file=space_file.name)]
    problems: list[Translatable] = []
    upstream: list[str] = []
    for key in ("space_models", "models"):
        for name in app.get(key) or []:
            place = msg("{file}: app.{key}", file=space_file.name, key=key)
            try:
                spec, _ = catalog.resolve(str(name))
            except UsageError as error:
                problems.append(msg("{place}: {problem}", place=place, problem=error.message))
                continue
            upstream.append(spec.upstream)
            if key == "space_models":
                problems += _unsuited(place, catalog, spec.id)
    wanted = list(filter(None, dict.fromkeys(upstream)))
    if not problems and sorted(wanted) != sorted(map(str, space.get("models") or [])):
        problems.append(
            msg("{file}: space.models is not what app.models serves: {models}.", file=space_file.name, models=wanted)
        )
    return problems


def _unsuited(place: Translatable, catalog: Catalog, model: str) -> list[Translatable]:
    """Why a Space should not begin with this model: strangers come for an answer, in minutes, without an account."""
    entry = catalog.entry(model)
    found = []
    if entry.spec.kind != "chat":
        found.append(msg("{place}: {model} is no instruct model.", place=place, model=model))
    if str(entry.card.gated) == "yes":
        found.append(msg("{place}: {model} is gated on the Hub.", place=place, model=model))
    if not _ready_made(entry):
        found.append(
            msg("{place}: the catalogue knows no ready-made ONNX or GGUF of {model}.", place=place, model=model)
        )
    return found


def _ready_made(entry: CatalogEntry) -> bool:
    return entry.onnx is not None or entry.spec.source.lower().endswith(".gguf")


def _app_block(space_file: Path) -> dict[str, Any]:
    document = validation.read_yaml(space_file)
    app = document.get("app") if isinstance(document, dict) else None
    return app if isinstance(app, dict) else {}


def space_block(path: Path) -> dict[str, Any]:
    """The ``space`` block of spaces.yaml, with what the login asks of it.

    Raises:
        ConfigError: There is none.
    """
    document = validation.read_yaml(path)
    space = document.get("space") if isinstance(document, dict) else None
    if not isinstance(space, dict) or not space:
        raise ConfigError(msg("{file} has no space block", file=path), msg("Restore spaces.yaml."))
    return with_login(space, document.get("app"))


def _pin(requirements: Path, package: str) -> str | None:
    match = re.search(rf"^{package}==([^\s;#]+)", read_text(requirements), flags=re.MULTILINE)
    return match[1] if match else None


def read_text(path: Path) -> str:
    """A file of the project.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            msg("{file} can't be read ({error})", file=path, error=error.strerror), msg("Restore the file.")
        ) from error
