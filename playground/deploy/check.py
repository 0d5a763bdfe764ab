"""The check that all files of a Space agree, with each other and with what the app takes when it starts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from playground.catalog.entries import Catalog, CatalogEntry, load_catalog
from playground.config import validation
from playground.config.endpoints import load_remotes
from playground.deploy.profiles import merged
from playground.deploy.space_file import HUB_LOGIN, OAUTH, front_matter, read_text, space_block, split_readme
from playground.deploy.starting import NOBODY, start_problems
from playground.errors import ConfigError, UsageError
from playground.messages import Translatable, msg


def check_space(
    space_file: Path, root: Path, catalog_file: Path, env: Mapping[str, str] = NOBODY
) -> list[Translatable]:
    """What disagrees, one sentence each; an empty list is good.

    Args:
        root: The checkout.
        env: Where the values of secrets come from, as far as they are there.

    Raises:
        ConfigError: A file can't be read, or spaces.yaml has no ``space`` block.
    """
    space = space_block(space_file)
    problems: list[Translatable] = []
    if split_readme(read_text(root / "README.md"))[0] != front_matter(space):
        problems.append(
            msg(
                "README.md's front matter differs from {file}: run `playground space render`.",
                file=space_file.name,
            )
        )
    problems += _pin_problems(space_file, space, root)
    app_file = space.get("app_file")
    if isinstance(app_file, str) and not (root / app_file).is_file():
        problems.append(msg("{file}: app_file {app_file} does not exist.", file=space_file.name, app_file=app_file))
    problems += _deploy_problems(space_file)
    document = merged(space_file, "")
    catalog = _catalog(document, space_file.name, catalog_file)
    own = _document_problems(document, space_file.name, root, catalog, env, readme=root / "README.md")
    problems += own
    for profile, of_profile in _profiles(document, space_file):
        if isinstance(of_profile, ConfigError):
            problems.append(of_profile.message)
            continue
        same = _app_block(of_profile).get("remotes") == _app_block(document).get("remotes")
        its_own = catalog if same else _catalog(of_profile, space_file.name, catalog_file)
        problems += [
            msg("Profile {profile}: {problem}", profile=profile, problem=each)
            for each in _document_problems(of_profile, space_file.name, root, its_own, env)
            if each not in own
        ]
    return problems


def _profiles(document: dict[str, Any], space_file: Path) -> Iterator[tuple[str, dict[str, Any] | ConfigError]]:
    """Each of spaces.yaml's profiles as it holds, or what is wrong with it."""
    profiles = document.get("profiles")
    for profile in profiles if isinstance(profiles, dict) else ():
        if not isinstance(profile, str):
            continue
        try:
            yield profile, merged(space_file, profile)
        except ConfigError as error:
            yield profile, error


def _document_problems(
    document: dict[str, Any],
    name: str,
    root: Path,
    catalog: Catalog,
    env: Mapping[str, str],
    *,
    readme: Path | None = None,
) -> list[Translatable]:
    """What is wrong in spaces.yaml itself, as it holds with or without a profile.

    Args:
        readme: Is to have what the login needs; None where it is rendered when it is uploaded.
    """
    logins = _login_problems(document, name, readme)
    return [
        *_shape_problems(document["space"], name),
        *logins,
        *start_problems(document, name, root, env, login=not logins),
        *_model_problems(document, name, catalog),
    ]


def _pin_problems(space_file: Path, space: dict[str, Any], root: Path) -> list[Translatable]:
    """Versions that stand in two files."""
    problems: list[Translatable] = []
    pin, version = _pin(root / "requirements.txt", "gradio"), space.get("sdk_version")
    if version != pin and pin:
        problems.append(
            msg(
                "{file}: sdk_version is {version}, but requirements.txt pins gradio {pin}.",
                file=space_file.name,
                version=version,
                pin=pin,
            )
        )
    elif version != pin:
        problems.append(
            msg(
                "{file}: sdk_version is {version}, but requirements.txt does not pin gradio.",
                file=space_file.name,
                version=version,
            )
        )
    torch, first = _pin(root / "requirements.txt", "torch"), _pin(root / "pre-requirements.txt", "torch")
    if torch != first:
        problems.append(
            msg("pre-requirements.txt pins torch {first}, but requirements.txt {then}.", first=first, then=torch)
        )
    return problems


def _deploy_problems(space_file: Path) -> list[Translatable]:
    """What ``deploy`` has that no Space can be given: it would be told by the deployment alone."""
    from playground.config.space_schema import DeployBlock

    found = validation.read_yaml(space_file).get("deploy") or {}
    return [each.message for each in validation.problems(DeployBlock, found, f"{space_file.name}: deploy")]


def _login_problems(document: dict[str, Any], name: str, readme: Path | None) -> list[Translatable]:
    """What a Space lacks for the login that ``app.login`` names."""
    app, space = _app_block(document), document["space"]
    login = app.get("login")
    if login == "password":
        deploy = document.get("deploy")
        if "PLAYGROUND_USERS" not in ((isinstance(deploy, dict) and deploy.get("secrets")) or []):
            return [msg("{file}: app.login is password, but deploy.secrets does not name PLAYGROUND_USERS.", file=name)]
    if login != HUB_LOGIN:
        return []
    problems: list[Translatable] = []
    if space.get(OAUTH) is not True:
        problems.append(msg("{file}: app.login is hugging-face, but space.hf_oauth is not true.", file=name))
    elif readme and not re.search(r"(?m)^hf_oauth: true\s*$", split_readme(read_text(readme))[0]):
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


def _model_problems(document: dict[str, Any], name: str, catalog: Catalog) -> list[Translatable]:
    """The served models are in the catalogue, those of a Space of its own suit one, and the Space's page names the
    upstream models of both.
    """
    app, space = _app_block(document), document["space"]
    problems: list[Translatable] = []
    upstream: list[str] = []
    for key in ("space_models", "models"):
        listed = app.get(key) or []
        for model in listed if isinstance(listed, list) else ():
            place = msg("{file}: app.{key}", file=name, key=key)
            try:
                spec, _ = catalog.resolve(str(model))
            except UsageError as error:
                problems.append(msg("{place}: {problem}", place=place, problem=error.message))
                continue
            upstream.append(spec.upstream)
            if key == "space_models":
                problems += _unsuited(place, catalog, spec.id)
    wanted = list(filter(None, dict.fromkeys(upstream)))
    if upstream and not problems and sorted(wanted) != sorted(map(str, space.get("models") or [])):
        problems.append(
            msg(
                "{file}: space.models must name the repositories of app.space_models and app.models: {models}.",
                file=name,
                models=wanted,
            )
        )
    return problems


def _catalog(document: dict[str, Any], name: str, catalog_file: Path) -> Catalog:
    try:
        remotes = load_remotes(_app_block(document).get("remotes"), {}, name)
    except ConfigError:  # which ``start_problems`` tells
        remotes = ()
    return load_catalog(catalog_file, remotes)


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


def _app_block(document: dict[str, Any]) -> dict[str, Any]:
    app = document.get("app")
    return app if isinstance(app, dict) else {}


def _pin(requirements: Path, package: str) -> str | None:
    match = re.search(rf"^{package}==([^\s;#]+)", read_text(requirements), flags=re.MULTILINE)
    return match[1] if match else None
