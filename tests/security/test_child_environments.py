"""Secrets of the environment reach no child process but the one that needs them: each writes down what it got."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from playground.errors import Stopped
from playground.evaluation import process as evaluation
from playground.export import process as preparation
from playground.export.process import ExportProcess
from playground.export.recipes import optimum
from playground.kernels import building
from playground.paths import PACKAGE, ROOT
from playground.records import ModelSpec, Variant
from playground.ship import trying
from playground.sources.pip import run_pip
from playground.system import child_environment, cpu
from playground.system.child import JsonChild
from playground.workers.process import worker_environment
from tests.support.hub_server import READER, Hub, tiny_llama
from tests.support.scripted_models import scripted

pytestmark = pytest.mark.waits

SECRET = "s3cr3t-of-the-space"
SECRETS = {
    "HF_TOKEN": READER,
    "HUGGING_FACE_HUB_TOKEN": READER,
    "PLAYGROUND_API_KEYS": f"{SECRET}-api-key-of-sixteen",
    "PLAYGROUND_SECRET": SECRET * 3,
    "PLAYGROUND_REMOTES": "[]",
    "MY_DATABASE": f"postgres://user:{SECRET}@db.example",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "OPENAI_API_KEY": SECRET,
    "PIP_INDEX_URL": f"https://user:{SECRET}@index.example/simple",
    "HTTPS_PROXY": f"http://user:{SECRET}@proxy.example:3128",
    "HF_HUB_SOME_TOKEN": SECRET,
    "GITHUB_TOKEN": SECRET,
}
PREPARATION, DOWNLOAD = "playground.export.worker", "playground.sources.hub.worker"
PRINTS = """
import json, os, sys
name = f"{os.getpid()}.json"
argv = open("/proc/self/cmdline").read().split(chr(0)) if os.path.exists("/proc/self/cmdline") else sys.argv
with open(os.path.join(os.environ["PYTHON_PRINTS_TO"], name), "w") as file:
    json.dump({"argv": argv, "env": dict(os.environ)}, file)
"""


class Printed:
    """Environments that children printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[tuple[str, dict[str, str]]]:
        read = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        return [(" ".join(each["argv"]), each["env"]) for each in read]

    def of(self, program: str) -> dict[str, str]:
        found = [env for argv, env in self.all() if program in argv]
        assert found, f"{program} did not run: {[argv for argv, _ in self.all()]}"
        return found[-1]


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    """Every Python that is started from now on writes its environment down; the environment is full of secrets."""
    hooks, folder = tmp_path / "hooks", tmp_path / "printed"
    for each in (hooks, folder):
        each.mkdir()
    (hooks / "sitecustomize.py").write_text(PRINTS)
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    monkeypatch.setenv("PYTHON_PRINTS_TO", str(folder))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Printed(folder)


def clean(env: dict[str, str], *but: str) -> bool:
    """Whether no secret is in ``env`` but those named."""
    assert not {"MY_DATABASE", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"} & set(but)
    values = {SECRET, READER}
    return not [name for name, value in env.items() if name not in but and any(each in value for each in values)]


def run(program: str, env: dict[str, str]) -> None:
    """Start a child of ours and let it end."""
    child = JsonChild(program, env)
    child.finish()
    child.kill()


def test_the_fixture_finds_a_secret_that_is_passed(printed: Printed) -> None:
    run("this", dict(os.environ))
    assert not clean(printed.of("-m this"))


def test_a_preparation_downloads_what_is_gated_and_only_its_download_has_the_token(
    hub: Hub, tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", READER)  # the fixture of the Hub took it away
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:9")
    hub.add("someone/gated", tiny_llama(), gated="manual")
    spec = ModelSpec("tiny", "Tiny", "hub:someone/gated", "", "torch", "fp32", 64, "chat")
    process = ExportProcess(spec, Variant("tiny", "torch", "fp32"), tmp_path / "home")
    try:
        with pytest.raises(Stopped):  # what is made of the weights is no matter here, and takes longer
            process.follow(lambda *_: None, lambda: any((tmp_path / "home" / "sources").glob("hub-*.json")))
    finally:
        process.kill()
    assert clean(printed.of(PREPARATION))
    download = printed.of(DOWNLOAD)
    assert download["HF_TOKEN"] == READER
    assert clean(download, "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTPS_PROXY")
    for argv, env in printed.all():
        assert DOWNLOAD in argv or clean(env), argv
    log = "".join(path.read_text() for path in (tmp_path / "home" / "logs").iterdir())
    assert SECRET not in log
    assert READER not in log


def test_pip_has_its_own_settings_and_no_token(printed: Printed, tmp_path: Path) -> None:
    said = tmp_path / "said"
    run_pip(["-c", "7"], said, tmp_path, cancelled=lambda: False, what=preparation.msg("It"), tick=lambda: None)
    env = printed.of("-c 7")
    assert env["PIP_INDEX_URL"] == SECRETS["PIP_INDEX_URL"]
    assert clean(env, "PIP_INDEX_URL", "HTTPS_PROXY")


def test_what_a_preparation_holds_for_pip_and_the_hub_is_not_in_its_own_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_environment, "_held", {})
    for name in (*SECRETS, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    child_environment.hold({"HF_TOKEN": READER, "PIP_INDEX_URL": SECRET})
    assert "HF_TOKEN" not in os.environ
    assert child_environment.passed(child_environment.HUB_TOKEN)["HF_TOKEN"] == READER
    assert "HF_TOKEN" not in child_environment.passed(child_environment.INDEXES)
    assert "PIP_INDEX_URL" not in child_environment.passed()


def test_workers_trials_and_evaluations_get_no_secret(printed: Printed, tmp_path: Path) -> None:
    run("playground.workers.main", worker_environment(scripted("fake:")))
    assert clean(printed.of("playground.workers.main"))
    run("playground.evaluation.worker", evaluation.harness_environment(os.environ))
    assert clean(printed.of("playground.evaluation.worker"), "HTTPS_PROXY")
    process = trying._Process("tiny")
    process.finish()
    process.kill()
    assert clean(printed.of("playground.ship.trial"))


def test_the_exporter_gets_no_secret(tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "exporter.py"
    ready = "print(json.dumps({'ready': True}), flush=True)\nsys.stdin.read()\n"
    worker.write_text(PRINTS + ready)
    monkeypatch.setattr(optimum, "WORKER", worker)
    optimum.Exporter(tmp_path).close()
    assert clean(printed.of("exporter.py"))


def test_compilers_and_their_trials_get_no_secret(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!{sys.executable}\nimport sys\nsys.exit(1)\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    building.compiler.cache_clear()
    try:
        with pytest.raises(building.KernelsUnavailable):
            building.build(tmp_path, "scalar")
    finally:
        building.compiler.cache_clear()
    assert clean(printed.of(str(compiler)))
    building._run([sys.executable, "-c", "8"], 30, preparation.msg("It"))
    assert clean(printed.of("-c 8"))


def test_programs_that_are_asked_about_the_machine_get_no_secret(printed: Printed) -> None:
    assert cpu.command_output(sys.executable, "-c", "print(9)") == "9"
    assert clean(printed.of("-c print(9)"))


CLUSTER = """
import json, os, psutil
from playground.workers.ray_cluster import Cluster

cluster = Cluster("local", 1)
import ray
replica = ray.get(ray.remote(lambda: dict(os.environ)).remote())
below = psutil.Process().children(recursive=True)
started = [{"argv": each.cmdline(), "env": each.environ()} for each in below]
cluster.leave([], [])
gone = psutil.wait_procs(below, timeout=20)[1] == []
print("told: " + json.dumps({"replica": replica, "started": started, "gone": gone}))
"""


@pytest.mark.integration
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_a_ray_cluster_that_is_started_here_gets_no_secret_and_ends_with_its_head(
    tmp_path: Path, printed: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps a cluster's token there
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name in [name for name in os.environ if name.startswith("RAY_AUTH")]:
        monkeypatch.delenv(name)
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    told = next((line[6:] for line in done.stdout.splitlines() if line.startswith("told: ")), "")
    assert told, done.stderr
    found = json.loads(told)
    assert clean(found["replica"]) and found["replica"]["RAY_USAGE_STATS_ENABLED"] == "0"
    programs = " ".join(word for each in found["started"] for word in each["argv"])
    assert "playground.workers.ray_head" in programs and "gcs_server" in programs and "raylet" in programs
    for each in found["started"]:
        assert clean(each["env"]), each["argv"]
    assert found["gone"]
    asking = [argv for argv, env in printed.all() if not clean(env)]
    assert len(asking) == 1, "whoever asked for the cluster has secrets, and nobody else"


def test_no_process_is_started_with_an_environment_that_was_not_chosen() -> None:
    """Whatever starts a program says ``env=``, and nothing copies the whole environment."""
    starts = {"Popen", "run", "call", "check_call", "check_output"}
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict) and path.name != "child_environment.py":
                spread = [value for key, value in zip(node.keys, node.values, strict=True) if key is None]
                assert "os.environ" not in map(ast.unparse, spread), path
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in {"os.system", "os.popen", "os.fork", "os.environ.copy"}, path
            assert not (called in {"dict", "copy"} and "os.environ" in map(ast.unparse, node.args)), path
            if called.startswith("subprocess.") and called.rpartition(".")[2] in starts:
                seen += 1
                assert "env" in {keyword.arg for keyword in node.keywords}, f"{path}: {called}"
    assert seen >= 4
