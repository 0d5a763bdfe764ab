"""The Space's configuration has one source."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground import paths
from playground.deploy.space_file import check_space, front_matter, render_readme, served_words, split_readme
from playground.errors import ConfigError
from playground.paths import ROOT

CATALOG = paths.CATALOG


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the files the check reads, in agreement."""
    for name in ("spaces.yaml", "pre-requirements.txt", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "app.py").write_text("print('app')\n")
    (tmp_path / "README.md").write_text("# Title\n\nText with --- a dash.\n\n---\n\nEnd.\n")
    render_readme(tmp_path / "spaces.yaml", tmp_path / "README.md")
    return tmp_path


def change(project: Path, part: str, **values: Any) -> None:
    path = project / "spaces.yaml"
    document = yaml.safe_load(path.read_text())
    document[part] |= values
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    render_readme(path, project / "README.md")


def problems(project: Path) -> list[str]:
    return check_space(project / "spaces.yaml", project, CATALOG)


def test_rendering_keeps_the_body_and_a_second_run_changes_nothing(project: Path) -> None:
    readme = project / "README.md"
    block, body = split_readme(readme.read_text())
    assert body == "# Title\n\nText with --- a dash.\n\n---\n\nEnd.\n"
    assert yaml.safe_load(block.strip("-\n")) == yaml.safe_load((project / "spaces.yaml").read_text())["space"]
    assert render_readme(project / "spaces.yaml", readme) is False


def test_a_readme_in_agreement_has_no_problem(project: Path) -> None:
    assert problems(project) == []


def test_the_python_version_stays_text_in_the_front_matter() -> None:
    assert yaml.safe_load(front_matter({"python_version": "3.10"}).strip("-\n")) == {"python_version": "3.10"}


def test_what_a_space_could_not_be_given_is_reported_before_it_is_deployed(project: Path) -> None:
    change(project, "deploy", variables={"PLAYGROUND_KEEP_DAYS": 7, "MY_TOKEN": "x"}, harware="cpu-basic")
    assert any("MY_TOKEN would be a secret" in each for each in problems(project))
    change(project, "deploy", variables={"PLAYGROUND_KEEP_DAYS": 7})
    found = problems(project)
    assert any("PLAYGROUND_KEEP_DAYS must be text, not 7. Write it in quotes." in each for each in found), found
    assert any("harware" in each for each in found), found


def test_a_readme_that_was_edited_by_hand_is_reported(project: Path) -> None:
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace("colorFrom: indigo", "colorFrom: red"))
    assert [problem for problem in problems(project) if "space render" in problem]


def test_an_sdk_version_other_than_the_gradio_pin_is_reported(project: Path) -> None:
    requirements = project / "requirements.txt"
    requirements.write_text(requirements.read_text().replace("gradio==6.31.0", "gradio==6.17.3"))
    assert problems(project) == ["spaces.yaml: sdk_version is 6.31.0, but requirements.txt pins gradio 6.17.3."]


def test_another_torch_than_requirements_ask_for_is_reported(project: Path) -> None:
    first = project / "pre-requirements.txt"
    first.write_text(first.read_text().replace("torch==2.13.0", "torch==2.12.0"))
    assert problems(project) == ["pre-requirements.txt pins torch 2.12.0, but requirements.txt 2.13.0."]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"short_description": "x" * 61}, "short_description has 61 characters"),
        ({"colorFrom": "teal"}, "space.colorFrom is 'teal'"),
        ({"python_version": "3.9"}, "python_version 3.9 is not supported"),
        ({"python_version": 3.11}, "Write it in quotes"),
        ({"colourTo": "green"}, "space: unknown key 'colourTo'. Did you mean colorTo?"),
        ({"app_file": "main.py"}, "app_file main.py does not exist"),
        ({"sdk": "streamlit"}, "space.sdk is 'streamlit'"),
        ({"models": ["google/gemma-3-270m"]}, "space.models is not what app.models serves"),
        ({"pinned": "no"}, "space.pinned must be true or false"),
    ],
)
def test_a_wrong_key_of_the_space_is_reported(project: Path, values: dict[str, Any], message: str) -> None:
    change(project, "space", **values)
    assert [problem for problem in problems(project) if message in problem]


def test_a_served_model_outside_the_catalogue_is_reported_with_the_closest_name(project: Path) -> None:
    change(project, "app", models=["gemma-3-270"])
    assert [problem for problem in problems(project) if "Did you mean gemma-3-270m or " in problem]


def test_a_model_of_the_hub_with_the_least_of_an_entry_can_be_served(project: Path) -> None:
    least = {"id": "small", "name": "Small", "kind": "base", "task": "text-generation", "source": "hub:Owner/Small"}
    catalog = project / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"schema_version": 1, "models": [{**least, "variants": ["onnx-int8"]}]}))
    change(project, "app", models=["small"], space_models=None)
    change(project, "space", models=["Owner/Small"])
    assert check_space(project / "spaces.yaml", project, catalog) == []


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("gemma-3-270m", "app.space_models: gemma-3-270m is no instruct model"),
        ("gemma-3-270m-it", "app.space_models: gemma-3-270m-it is gated on the Hub"),
        (
            "olmo-2-1b-instruct",
            "app.space_models: the catalogue knows no ready-made ONNX or GGUF of olmo-2-1b-instruct",
        ),
        ("no-such-model", "app.space_models: Unknown model 'no-such-model'"),
    ],
)
def test_a_space_begins_with_instruct_models_that_anybody_may_have_ready_made(
    project: Path, model: str, problem: str
) -> None:
    change(project, "app", space_models=[model])
    assert [each for each in problems(project) if problem in each]


def test_the_page_of_a_space_names_the_models_of_both_sets(project: Path) -> None:
    change(project, "space", models=["HuggingFaceTB/SmolLM2-135M-Instruct", "google/gemma-3-270m"])
    assert [each for each in problems(project) if "space.models is not what app.models serves" in each]


def test_what_a_space_serves_is_told(project: Path) -> None:
    words = "A Space serves {}; where the Hub can't be reached, {}."
    change(project, "app", space_models=["a", "b"], models=["c"])
    assert served_words(project / "spaces.yaml") == words.format("a, b", "c")
    change(project, "app", space_models=None)
    assert served_words(project / "spaces.yaml") == "A Space serves c."


def test_every_problem_is_listed_not_only_the_first(project: Path) -> None:
    change(project, "space", colorFrom="teal", short_description="x" * 61)
    assert len(problems(project)) == 2


def test_a_missing_space_block_is_a_config_error(project: Path) -> None:
    (project / "spaces.yaml").write_text("app: {models: [gemma-3-270m]}\n")
    with pytest.raises(ConfigError, match="no space block"):
        problems(project)


def test_the_login_with_hugging_face_asks_the_hub_for_oauth(project: Path) -> None:
    change(project, "app", login="hugging-face")
    assert "\nhf_oauth: true\n" in (project / "README.md").read_text()
    assert problems(project) == []
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace("hf_oauth: true\n", ""))
    assert any("no hf_oauth: true" in each for each in problems(project))
    change(project, "app", login="none")
    assert "hf_oauth" not in (project / "README.md").read_text()


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("space", {"hf_oauth": False}, "space.hf_oauth is not true"),
        ("space", {"hf_oauth_scopes": ["email"]}, "asks visitors for more"),
        ("app", {"audience": "own"}, "app.audience is own"),
        ("app", {"login": "password"}, "deploy.secrets does not name PLAYGROUND_USERS"),
    ],
)
def test_a_login_that_could_not_work_is_reported(
    project: Path, part: str, values: dict[str, Any], message: str
) -> None:
    change(project, "app", login="hugging-face")
    change(project, part, **values)
    assert [each for each in problems(project) if message in each]


def test_a_password_login_whose_secret_goes_along_is_good(project: Path) -> None:
    change(project, "app", login="password")
    change(project, "deploy", secrets=["PLAYGROUND_USERS"])
    assert problems(project) == []
