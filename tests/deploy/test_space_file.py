"""The Space's configuration has one source."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground import paths
from playground.deploy.check import check_space
from playground.deploy.space_file import front_matter, render_readme, served_words, split_readme
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
        ({"models": ["google/gemma-3-270m"]}, "space.models must name the repositories"),
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
    change(project, "profiles", zerogpu={})
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
    assert [each for each in problems(project) if "space.models must name the repositories" in each]


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


WRONG_VARIABLES = [
    ({"PLAYGROUND_THREADS": "many"}, "PLAYGROUND_THREADS='many' is not a whole number of at least 1"),
    ({"PLAYGROUND_MEMORY_MB": "-1"}, "PLAYGROUND_MEMORY_MB='-1' is not a whole number"),
    ({"PLAYGROUND_KEEP_DAYS": "0"}, "PLAYGROUND_KEEP_DAYS='0' is not a whole number"),
    ({"PLAYGROUND_RAY_REPLICAS": "1"}, "a whole number of at least 2"),
    ({"PLAYGROUND_KV_BITS": "4"}, "PLAYGROUND_KV_BITS is 4"),
    ({"PORT": "99999"}, "PORT='99999' is more than 65535"),
    ({"PLAYGROUND_LOG": "xml"}, "PLAYGROUND_LOG is 'xml'. Set it to text, json, or unset it."),
    ({"PLAYGROUND_AUDIENCE": "all"}, "PLAYGROUND_AUDIENCE is 'all'"),
    ({"PLAYGROUND_LOGIN": "github"}, "PLAYGROUND_LOGIN is 'github'"),
    ({"PLAYGROUND_HOSTS": "https://play.example.org"}, "is not the name of a host"),
    ({"PLAYGROUND_FRAMES": "*"}, "is not a website"),
    ({"PLAYGROUND_PREPARED_FROM": "nobody"}, "is not OWNER/NAME"),
    ({"PLAYGROUND_REMOTES": "{"}, "PLAYGROUND_REMOTES is not valid JSON"),
    ({"PLAYGROUND_REMOTES": '[{"name": "x"}]'}, "the key 'model' is missing"),
    ({"PLAYGROUND_THREDS": "2"}, "there is no setting PLAYGROUND_THREDS. Did you mean PLAYGROUND_THREADS?"),
    ({"PLAYGROUND_SPACE": "other.yaml"}, "leave PLAYGROUND_SPACE out"),
    ({"PLAYGROUND_CATALOG": "other.yaml"}, "PLAYGROUND_CATALOG names other.yaml, which is not in the checkout"),
    ({"PLAYGROUND_CATALOG": "spaces.yaml"}, "unknown key"),
    ({"PLAYGROUND_HARDWARE": "spaces.yaml"}, "unknown key"),
    ({"PLAYGROUND_LOGIN": "password"}, "PLAYGROUND_USERS names nobody"),
    ({"PLAYGROUND_LOGIN": "hugging-face"}, "was not given OPENID_PROVIDER_URL"),
]


@pytest.mark.parametrize(("variables", "message"), WRONG_VARIABLES)
def test_a_variable_that_the_app_would_not_start_with_is_reported(
    project: Path, variables: dict[str, str], message: str
) -> None:
    change(project, "deploy", variables=variables)
    found = problems(project)
    assert len(found) == 1, found
    assert message in found[0] and found[0].startswith("spaces.yaml: ")


def test_variables_that_the_app_takes_and_those_that_are_not_its_own_are_no_problem(project: Path) -> None:
    change(
        project,
        "deploy",
        variables={
            "PLAYGROUND_LOG": "json",
            "PLAYGROUND_KEEP_DAYS": "7",
            "PLAYGROUND_AUDIENCE": "public",
            "PLAYGROUND_HOSTS": "play.example.org",
            "PLAYGROUND_HOME": "/data",
            "PLAYGROUND_CATALOG": "/data/catalog.yaml",
            "OMP_NUM_THREADS": "as many as there are",
        },
    )
    assert problems(project) == []


def test_every_wrong_variable_is_reported(project: Path) -> None:
    change(project, "deploy", variables={"PLAYGROUND_THREADS": "many", "PLAYGROUND_LOG": "xml"})
    assert len(problems(project)) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"limits": {"max_models": 0}}, "app.limits.max_models must be a whole number above 0"),
        ({"limits": {"max_models": "2"}}, "app.limits.max_models must be a whole number above 0, not '2'"),
        ({"limits": {"max_model": 2}}, "app.limits: unknown key 'max_model'. Did you mean max_models?"),
        ({"limits": {"memory_mb": -1}}, "app.limits.memory_mb must be a number above 0"),
        ({"limits": {"prepared_gb": -1}}, "app.limits.prepared_gb must be a number of at least 0, or none"),
        ({"limts": {}}, "app: unknown key 'limts'. Did you mean limits?"),
        ({"audience": "all"}, "app.audience is 'all'"),
        ({"login": "github"}, "app.login is 'github'"),
        ({"may_add": "anybody"}, "app.may_add is 'anybody'"),
        ({"api": "yes"}, "app.api must be true or false"),
        ({"prepared_from": "nobody"}, "is not OWNER/NAME"),
        ({"remotes": [{"name": "x"}]}, "app.remotes[0]: the key 'model' is missing"),
        ({"models": []}, "no list of models under app"),
    ],
)
def test_a_setting_of_the_app_that_it_would_not_start_with_is_reported(
    project: Path, values: dict[str, Any], message: str
) -> None:
    change(project, "app", **values)
    assert [each for each in problems(project) if message in each], problems(project)


@pytest.mark.parametrize(
    ("secrets", "env", "message"),
    [
        (["PLAYGROUND_SECRET"], {"PLAYGROUND_SECRET": "s3cr3t"}, "PLAYGROUND_SECRET is shorter than 32 characters"),
        (["PLAYGROUND_API_KEYS"], {"PLAYGROUND_API_KEYS": "s3cr3t"}, "PLAYGROUND_API_KEYS: key 1 is shorter"),
        (["PLAYGROUND_METRICS_KEY"], {"PLAYGROUND_METRICS_KEY": "s3cr3t"}, "PLAYGROUND_METRICS_KEY is shorter"),
        (["PLAYGROUND_USERS"], {"PLAYGROUND_USERS": "ann:s3cr3t"}, "PLAYGROUND_USERS: the password of entry 1"),
        (["PLAYGROUND_THREADS"], {"PLAYGROUND_THREADS": "s3cr3t"}, "the value that PLAYGROUND_THREADS has"),
        (["PLAYGROUND_SECRT"], {"PLAYGROUND_SECRT": "s3cr3t"}, "PLAYGROUND_SECRT"),
        (["PLAYGROUND_SECRT"], {}, "there is no setting PLAYGROUND_SECRT. Did you mean PLAYGROUND_SECRET?"),
    ],
)
def test_a_secret_that_the_app_would_not_start_with_is_reported_and_not_repeated(
    project: Path, secrets: list[str], env: dict[str, str], message: str
) -> None:
    change(project, "deploy", secrets=secrets)
    found = check_space(project / "spaces.yaml", project, CATALOG, env)
    assert len(found) == 1, found
    assert message in found[0] and "s3cr3t" not in found[0]


def test_a_login_that_its_secrets_rule_out_is_reported(project: Path) -> None:
    change(project, "app", login="none")
    change(project, "deploy", secrets=["PLAYGROUND_USERS"])
    assert any("The login is none, but PLAYGROUND_USERS names people" in each for each in problems(project))


def test_what_is_wrong_with_a_profile_alone_is_reported_with_its_name(project: Path) -> None:
    change(project, "profiles", zerogpu={"app": {"limits": {"max_models": 0}, "space_models": ["no-such-model"]}})
    found = problems(project)
    assert all(each.startswith("Profile zerogpu: spaces.yaml: app.") for each in found), found
    assert ["max_models" in each for each in found] == [True, False]
    change(project, "profiles", zerogpu={"apps": {}})
    assert [each for each in problems(project) if "profiles.zerogpu: unknown key 'apps'" in each]
