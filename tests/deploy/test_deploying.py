"""A deployment shows what it will do, uploads what differs and nothing else, and waits until the Space answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground import paths
from playground.config.settings import Settings, load_settings
from playground.deploy.files import choose_files
from playground.deploy.plan import Deployment, plan_deployment
from playground.deploy.space_file import render_readme, split_readme
from playground.deploy.upload import Deployed, deploy
from playground.deploy.waiting import Running, wait_until_running
from playground.errors import ConfigError, PlaygroundError, Stopped, UsageError
from playground.paths import ROOT
from tests.support.hub_server import READER, WRITER, Hub, Space

pytestmark = [
    pytest.mark.waits,
    # huggingface_hub's way without Xet hands httpx2 a file by the older of two arguments.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]

REPO = "me/playground"


def quiet(step: str, share: float | None) -> None:
    pass


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small checkout without git."""
    root = tmp_path / "checkout"
    (root / "playground" / "ui").mkdir(parents=True)
    for name in ("spaces.yaml", "pre-requirements.txt", "requirements.txt"):
        shutil.copy(ROOT / name, root / name)
    (root / "app.py").write_text("print('app')\n")
    (root / "playground" / "ui" / "style.css").write_text("a {}\n")
    (root / "README.md").write_text("# Title\n")
    render_readme(root / "spaces.yaml", root / "README.md")
    return root


@cache
def served() -> str:
    """The catalogue's entries of what the Space serves: the whole of it takes a second to read."""
    document = yaml.load(paths.CATALOG.read_text(), Loader=yaml.CSafeLoader)
    names = ("smollm2-360m-instruct", "qwen2.5-0.5b-instruct", "smollm2-135m-instruct", "gemma-3-270m")
    return yaml.safe_dump(document | {"models": [each for each in document["models"] if each["id"] in names]})


def settings(project: Path) -> Settings:
    catalog = project.parent / "catalog.yaml"
    if not catalog.exists():
        catalog.write_text(served())
    return replace(load_settings({}), space_file=project / "spaces.yaml", catalog_file=catalog)


def plan(project: Path, env: dict[str, str] | None = None, **more: Any) -> Deployment:
    return plan_deployment(REPO, project, settings(project), env or {}, **more)


def change(project: Path, **blocks: Any) -> None:
    path = project / "spaces.yaml"
    document = yaml.safe_load(path.read_text())
    for name, values in blocks.items():
        document[name] = {**(document.get(name) or {}), **values}
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def on_the_hub(hub: Hub) -> dict[str, bytes]:
    repo = hub.repos[REPO]
    return {path: content for path, content in repo.commits[repo.sha].items() if path != ".gitattributes"}


# -- files ----------------------------------------------------------------------------------------------------------


def test_every_file_of_the_project_that_a_space_needs_is_uploaded_and_no_test() -> None:
    """The list of endings has all that git tracks: a new kind of file is to be thought about."""
    chosen = choose_files(ROOT)
    names = {path.as_posix() for path in chosen.files}
    done = subprocess.run(
        ["git", "ls-files", "playground", "docs"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}
    assert tracked - names == set()
    assert {"app.py", "README.md", "requirements.txt", "spaces.yaml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", ".", "benchmarks/"))]


def test_what_is_hidden_compiled_or_of_no_program_stays(project: Path) -> None:
    for name in ("playground/__pycache__/a.pyc", "playground/.env", "playground/history.sqlite3", "docs/long.png"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(b"x")
    (project / "docs" / "long.png").write_bytes(bytes(10_000_001))
    (project / "docs" / "outside.md").symlink_to(project.parent / "secret.md")
    (project.parent / "secret.md").write_text("mine")
    (project / "notes.txt").write_text("mine")
    chosen = choose_files(project)
    assert [path.as_posix() for path in chosen.files] == [
        "README.md",
        "app.py",
        "playground/ui/style.css",
        "pre-requirements.txt",
        "requirements.txt",
        "spaces.yaml",
    ]
    assert [path.as_posix() for path in chosen.left_out] == [
        "docs/long.png",
        "docs/outside.md",
        "playground/.env",
        "playground/history.sqlite3",
    ]


def test_a_file_that_git_does_not_track_stays_but_for_compiled_kernels(project: Path) -> None:
    for command in (["init", "-q"], ["add", "app.py", "playground"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    (project / "playground" / "key.yaml").write_text("mine")
    library = project / "playground" / "kernels" / "libraries" / "avx2.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"x")
    chosen = choose_files(project)
    assert chosen.tracked
    assert {path.as_posix() for path in chosen.files} == {
        "app.py",
        "playground/ui/style.css",
        "playground/kernels/libraries/avx2.so",
    }
    assert Path("playground/key.yaml") in chosen.left_out


# -- the plan -------------------------------------------------------------------------------------------------------


def test_a_plan_names_variables_and_secrets_and_has_no_value_of_them(project: Path) -> None:
    change(project, deploy={"variables": {"PLAYGROUND_THREADS": "717171"}, "secrets": ["PLAYGROUND_SECRET", "OTHER"]})
    found = plan(project, {"PLAYGROUND_SECRET": "a-very-secret-value-of-many-letters", "HF_TOKEN": WRITER})
    assert found.plan.variables == ("PLAYGROUND_THREADS",)
    assert (found.plan.secrets, found.plan.secrets_missing) == (("PLAYGROUND_SECRET",), ("OTHER",))
    shown = json.dumps(found.plan.to_json()) + repr(found)
    assert not [word for word in ("717171", "a-very-secret-value-of-many-letters", WRITER) if word in shown]


def test_a_plan_tells_hardware_models_and_what_the_first_start_takes(project: Path) -> None:
    found = plan(project).plan
    assert (found.hardware, found.per_hour, found.memory_gb) == ("cpu-basic", 0.0, 16)
    served = {str(model.variant): model for model in found.models}
    assert set(served) == {
        "smollm2-360m-instruct@onnx-int8",
        "qwen2.5-0.5b-instruct@onnx-int8",
        "smollm2-135m-instruct@onnx-int8",
        "gemma-3-270m@onnx-int8",
    }
    assert all(model.download_mb and model.prepare_mb and model.run_mb for model in found.models)
    assert found.front_matter == split_readme((project / "README.md").read_text())[0]
    assert plan(project, hardware="cpu-upgrade").plan.per_hour == 0.03


def test_with_prepared_artifacts_nothing_is_prepared_there(project: Path) -> None:
    change(project, app={"prepared_from": "me/prepared"})
    found = plan(project).plan
    assert found.prepared_from == "me/prepared"
    assert {model.prepare_mb for model in found.models if model.needs_hub} == {0.0}


def test_the_profile_of_zerogpu_changes_what_leaves_and_nothing_here(project: Path, writer: Hub) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    found = plan(project, profile="zerogpu")
    assert found.plan.hardware == "zero-a10g"
    assert "smollm2-360m-instruct@torch-bf16" in {str(model.variant) for model in found.plan.models}
    deploy(found, quiet)
    there = {path: content.decode() for path, content in on_the_hub(writer).items()}
    told = yaml.safe_load(split_readme(there["README.md"])[0].strip("-\n"))
    assert (told["python_version"], told["suggested_hardware"]) == ("3.12", "zero-a10g")
    lines = there["requirements.txt"].splitlines()
    torch = next(line for line in lines if line.startswith("torch=="))
    assert (2, 8) <= tuple(map(int, torch.partition("==")[2].split(".")[:2])) <= (2, 11)
    assert [line for line in lines if line.startswith("spaces==")]
    assert "pre-requirements.txt" not in there
    rendered = yaml.safe_load(there["spaces.yaml"])
    assert "profiles" not in rendered and rendered["space"] == told
    assert writer.spaces[REPO].hardware == "zero-a10g"
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(UsageError, match="Did you mean zerogpu"):
        plan(project, profile="zerogpus")


@pytest.mark.parametrize("profile", ["", "zerogpu"])
def test_a_login_with_hugging_face_goes_with_the_space_and_nothing_changes_here(project: Path, profile: str) -> None:
    change(project, app={"login": "hugging-face"})
    before = (project / "README.md").read_bytes()
    found = plan(project, profile=profile)
    told = found.contents["README.md"]
    assert isinstance(told, bytes)
    assert "\nhf_oauth: true\n" in split_readme(told.decode())[0] == found.plan.front_matter
    assert split_readme(told.decode())[1] == split_readme(before.decode())[1]
    assert (project / "README.md").read_bytes() == before
    change(project, app={"login": "none"})
    assert "hf_oauth" not in plan(project, profile=profile).plan.front_matter


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ({"deploy": {"variables": {"PLAYGROUND_THREADS": "many"}}}, "PLAYGROUND_THREADS='many'"),
        ({"deploy": {"variables": {"PLAYGROUND_THREDS": "2"}}}, "Did you mean PLAYGROUND_THREADS"),
        ({"app": {"limits": {"max_models": 0}}}, "max_models must be a whole number above 0"),
        ({"profiles": {"zerogpu": {"app": {"audience": "all"}}}}, "app.audience is 'all'"),
    ],
)
def test_a_space_that_would_not_start_is_not_deployed(
    project: Path, writer: Hub, blocks: dict[str, dict[str, Any]], told: str
) -> None:
    change(project, **blocks)
    with pytest.raises(ConfigError, match=r"would not start there: spaces\.yaml: ") as caught:
        deploy(plan(project, profile="zerogpu"), quiet)
    assert told in str(caught.value)
    assert REPO not in writer.repos


def test_a_secret_that_the_app_would_not_start_with_is_not_set(project: Path, writer: Hub) -> None:
    with pytest.raises(ConfigError, match="PLAYGROUND_SECRET is shorter") as caught:
        deploy(plan(project, {"PLAYGROUND_SECRET": "s3cr3t"}), quiet)
    assert "s3cr3t" not in str(caught.value)
    assert REPO not in writer.repos


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_API_KEY", "DB_PASSWORD"])
def test_a_variable_that_would_be_a_secret_everybody_can_read_is_refused(project: Path, name: str) -> None:
    change(project, deploy={"variables": {name: "x"}})
    with pytest.raises(ConfigError, match=rf"{name} would be a secret") as caught:
        plan(project)
    assert "'x'" not in str(caught.value)


@pytest.mark.parametrize("name", ["justaname", "a/b/c", "", "a b/c", "https://x/y"])
def test_a_deployment_needs_owner_and_name(project: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not OWNER/NAME"):
        plan_deployment(name, project, settings(project), {})


# -- the upload -----------------------------------------------------------------------------------------------------


def test_a_new_space_gets_files_variables_secrets_and_hardware(project: Path, writer: Hub) -> None:
    change(project, deploy={"variables": {"A": "1"}, "secrets": ["B"], "hardware": "cpu-upgrade"})
    done = deploy(plan(project, {"B": "two"}), quiet, private=True)
    assert done.address == f"{writer.url}/spaces/{REPO}"
    assert set(done.changed) == set(on_the_hub(writer)) == set(plan(project).contents)
    assert on_the_hub(writer)["app.py"] == b"print('app')\n"
    space = writer.spaces[REPO]
    assert (space.variables, space.secrets, space.hardware) == ({"A": "1"}, {"B": "two"}, "cpu-upgrade")
    assert writer.repos[REPO].private and done.private


def test_a_second_run_changes_nothing_and_a_third_what_differs(project: Path, writer: Hub) -> None:
    change(project, deploy={"variables": {"A": "1"}, "secrets": ["B"]})
    deploy(plan(project, {"B": "two"}), quiet)
    commits = len(writer.repos[REPO].commits)
    again = deploy(plan(project, {"B": "other"}), quiet)
    assert again.nothing_changed
    assert len(writer.repos[REPO].commits) == commits
    assert writer.spaces[REPO].secrets == {"B": "two"}
    assert deploy(plan(project, {"B": "other"}), quiet, renew_secrets=True).secrets == ("B",)
    (project / "app.py").write_text("print('other')\n")
    (project / "playground" / "ui" / "style.css").unlink()
    third = deploy(plan(project), quiet)
    assert (third.changed, third.deleted) == (("app.py",), ("playground/ui/style.css",))
    assert "playground/ui/style.css" not in on_the_hub(writer)
    assert deploy(plan(project), quiet).nothing_changed


def test_a_library_goes_by_lfs_and_is_found_again(project: Path, writer: Hub) -> None:
    library = project / "playground" / "kernels" / "libraries" / "avx2.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x7fELF" + bytes(range(256)))
    deploy(plan(project), quiet)
    assert on_the_hub(writer)["playground/kernels/libraries/avx2.so"] == library.read_bytes()
    assert writer.seen("PUT", "/lfs-object/")
    assert deploy(plan(project), quiet).nothing_changed


def test_a_space_that_nobody_could_sign_in_to_is_not_deployed(project: Path, writer: Hub) -> None:
    change(project, app={"login": "password"}, deploy={"secrets": ["PLAYGROUND_USERS"]})
    with pytest.raises(UsageError, match=r"no secret PLAYGROUND_USERS.*NAME:PASSWORD"):
        deploy(plan(project), quiet)
    assert on_the_hub(writer) == {}
    deploy(plan(project, {"PLAYGROUND_USERS": "ann:a-long-password"}), quiet)
    assert deploy(plan(project), quiet).nothing_changed  # the Space has it


def test_another_app_is_not_overwritten(project: Path, writer: Hub) -> None:
    deploy(plan(project), quiet)
    writer.repos[REPO].commit({"app.py": b"somebody's", "README.md": b"theirs"})
    with pytest.raises(UsageError, match="holds another app"):
        deploy(plan(project), quiet)
    assert on_the_hub(writer)["app.py"] == b"somebody's"
    deploy(plan(project), quiet, force=True)
    assert on_the_hub(writer)["app.py"] == b"print('app')\n"


def test_two_deployments_at_once_are_not_mixed(project: Path, writer: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody commits after our look and before our commit."""
    deploy(plan(project), quiet)
    (project / "app.py").write_text("print('mine')\n")

    def meanwhile(step: str, share: float | None) -> None:
        if "uploading" in step:
            writer.repos[REPO].commit({**on_the_hub(writer), "app.py": b"theirs"})

    with pytest.raises(PlaygroundError, match="Somebody else changed it"):
        deploy(plan(project), meanwhile)
    assert on_the_hub(writer)["app.py"] == b"theirs"


@pytest.mark.parametrize(
    ("token", "told"), [("", "Set HF_TOKEN"), (READER, "token that may write"), ("hf_wrong", "Set HF_TOKEN")]
)
def test_a_refused_token_is_told_and_not_shown(
    project: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str, told: str
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if token == "hf_wrong":
        hub.fail("/api/repos/create", status=401)
    with pytest.raises(PlaygroundError, match=told) as caught:
        deploy(plan(project), quiet)
    assert not token or token not in str(caught.value)


def test_hardware_that_needs_a_plan_is_told_with_the_free_one(project: Path, writer: Hub) -> None:
    writer.paid = {"cpu-upgrade"}
    with pytest.raises(PlaygroundError, match=r"payment method.*--profile zerogpu"):
        deploy(plan(project, hardware="cpu-upgrade"), quiet)


def test_a_hub_out_of_reach_is_an_error_with_a_next_step(project: Path, writer: Hub) -> None:
    writer.close()
    with pytest.raises(PlaygroundError, match=r"can't be reached.*Check the network"):
        deploy(plan(project), quiet)


# -- until it runs --------------------------------------------------------------------------------------------------


class App(BaseHTTPRequestHandler):
    """What answers at the Space's address."""

    refusals = 0

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        cls = type(self)
        cls.refusals -= 1
        content = b'{"status": "ok"}' if self.path == "/healthz" and cls.refusals < 0 else b"not yet"
        self.send_response(200 if content.startswith(b"{") else 503)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def app(writer: Hub) -> Iterator[type[App]]:
    handler = type("Handler", (App,), {"refusals": 2})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    writer.space_host = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()
    thread.join(5)


def wait(done: Deployed, steps: list[str] | None = None, **more: Any) -> Running:
    told = steps if steps is not None else []
    ways = {"timeout_s": 20.0, "poll_s": 0.01, "settles_s": 0.5, **more}
    return wait_until_running(done, lambda step, share: told.append(step), lambda: False, **ways)


def test_it_is_waited_for_until_it_answers(project: Path, writer: Hub, app: type[App]) -> None:
    steps: list[str] = []
    done = deploy(plan(project), quiet)
    writer.fail("/runtime", status=503, times=2)  # the Hub stumbles
    found = wait(done, steps)
    assert (found.stage, found.hardware, found.health) == ("RUNNING", "cpu-basic", '{"status": "ok"}')
    assert [step.split()[-1] for step in steps] == ["NO_APP_FILE", "BUILDING", "APP_STARTING"]
    assert wait(deploy(plan(project), quiet)).health  # nothing changed, and it answers


def test_the_commit_before_that_still_runs_is_not_taken_for_the_new_one(
    project: Path, writer: Hub, app: type[App]
) -> None:
    deploy(plan(project), quiet)
    writer.spaces[REPO].after_commit = ["RUNNING", "RUNNING", "RUNNING_BUILDING", "RUNTIME_ERROR"]
    (project / "app.py").write_text("1/0\n")
    done = deploy(plan(project), quiet)
    with pytest.raises(PlaygroundError, match="RUNTIME_ERROR"):
        wait(done)


@pytest.mark.parametrize("stage", ["BUILD_ERROR", "RUNTIME_ERROR"])
def test_a_failure_comes_with_the_end_of_its_log_and_a_next_step(project: Path, writer: Hub, stage: str) -> None:
    lines = [f"line {number}\n" for number in range(100)]
    kind = "build" if stage == "BUILD_ERROR" else "run"
    writer.spaces[REPO] = Space(after_commit=["BUILDING", stage], error="Exit code: 1", logs={kind: lines})
    with pytest.raises(PlaygroundError) as caught:
        wait(deploy(plan(project), quiet))
    said = str(caught.value)
    assert "Exit code: 1" in said and "line 99" in said and "line 70" in said and "line 69" not in said
    assert "deploy again" in said


def test_an_app_that_says_it_is_not_well_is_an_error(
    project: Path, writer: Hub, app: type[App], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.deploy.waiting.HEALTH_S", 0.2)
    app.refusals = 1_000_000
    with pytest.raises(PlaygroundError, match="does not answer as it should: HTTP 503 not yet"):
        wait(deploy(plan(project), quiet))


def test_waiting_ends_when_it_is_called_off_or_takes_too_long(project: Path, writer: Hub) -> None:
    writer.spaces[REPO] = Space(after_commit=["BUILDING"])
    done = deploy(plan(project), quiet)
    with pytest.raises(PlaygroundError, match="is still BUILDING"):
        wait(done, timeout_s=0.05)
    with pytest.raises(Stopped):
        wait_until_running(done, quiet, lambda: True, timeout_s=5, poll_s=1.0)
