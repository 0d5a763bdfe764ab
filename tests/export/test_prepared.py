"""What somebody prepared elsewhere is pushed to a Hub and taken from it as data, proven, or prepared here after all."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.catalog.entries import Terms
from playground.errors import PlaygroundError, UsageError
from playground.export import cache, pipeline, prepared
from playground.export.preparer import Preparer
from playground.kernels import building
from playground.records import Artifact, Fact, LoadSpec, ModelFacts, ModelSpec, Request, Variant
from playground.runtimes import create_runtime
from playground.ship.push import Pushed, Pushing, cannot_push, push
from playground.ship.shipment import Known
from tests.support import tiny
from tests.support.hub_server import WRITER, Hub, use

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("prepared"),
    # huggingface_hub's way without Xet hands httpx2 a file by the older of two arguments.
    pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"),
]

REPO = "me/prepared"
VARIANT = Variant("tiny", "onnx", "int8")
SPEC = ModelSpec("tiny", "Tiny", "hub:someone/tiny", "", "onnx", "int8", tiny.CONTEXT, "chat", upstream="someone/tiny")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An artifact that was prepared elsewhere, with all that is checked."""
    home = tmp_path_factory.mktemp("elsewhere")
    source = tiny.write_model(tmp_path_factory.mktemp("source"))
    spec = replace(SPEC, source=f"path:{source}", upstream="")
    return pipeline.make(spec, VARIANT, home, lambda *_: None, lambda: False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    use(server, tmp_path / "hf", monkeypatch)
    monkeypatch.setenv("HF_TOKEN", WRITER)
    yield server
    server.close()


def pushed(artifact: Artifact, spec: ModelSpec = SPEC, licence: str = "apache-2.0", **more: Any) -> Pushed:
    facts = ModelFacts("tiny", license=Fact(licence, "its card", "https://licence.example", "card"))
    return push((Pushing(spec, artifact, facts, Known(licence, more.pop("terms", None), "")),), REPO, quiet, **more)


def quiet(step: str, share: float | None) -> None:
    pass


def take(home: Path, spec: ModelSpec = SPEC, variant: Variant = VARIANT) -> Artifact:
    return prepared.take(spec, variant, home, REPO, progress=quiet, cancelled=lambda: False)


def files(hub: Hub) -> dict[str, bytes]:
    repo = hub.repos[REPO]
    return repo.commits[repo.sha]


# -- pushed ---------------------------------------------------------------------------------------------------------


def test_what_is_pushed_has_a_model_card_checksums_and_no_machine_code(
    made: Artifact, hub: Hub, tmp_path: Path
) -> None:
    done = pushed(made)
    there = files(hub)
    assert {"README.md", "prepared.json", "SHA256SUMS", "tiny/onnx-int8/model.onnx"} <= set(there)
    assert {"tiny/onnx-int8/LICENSE", "tiny/onnx-int8/NOTICE"} <= set(there)
    assert not [name for name in there if name.endswith((".so", ".program", ".py"))]
    block, body = there["README.md"].decode().split("---\n", 2)[1:]
    told = yaml.safe_load(block)
    assert (told["base_model"], told["base_model_relation"]) == ("someone/tiny", "quantized")
    assert (told["license"], told["library_name"]) == ("apache-2.0", "onnx")
    assert made.fidelity is not None
    for said in (f"{made.fidelity.positions:,} positions", made.recipe, "transformers 5", made.revision):
        assert said in body
    for name, content in there.items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    check = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "copy", capture_output=True, check=False)
    assert check.returncode == 0, check.stdout
    assert (done.artifacts, done.address) == (("tiny@onnx-int8",), f"{hub.url}/{REPO}")


def test_a_second_push_changes_nothing_and_another_artifact_stands_beside_the_first(made: Artifact, hub: Hub) -> None:
    first = pushed(made)
    again = pushed(made)
    assert (again.changed, again.deleted, again.commit) == ((), (), first.commit)
    other = replace(SPEC, id="other", upstream="someone/other")
    done = pushed(replace(made, variant=replace(VARIANT, model="other")), other, licence="gemma")
    assert done.artifacts == ("other@onnx-int8", "tiny@onnx-int8") or set(done.artifacts) == {
        "other@onnx-int8",
        "tiny@onnx-int8",
    }
    told = yaml.safe_load(files(hub)["README.md"].decode().split("---\n", 2)[1])
    assert told["base_model"] == ["someone/other", "someone/tiny"]
    assert told["license_name"] == "apache-2.0 and gemma"


def test_terms_are_passed_on(made: Artifact, hub: Hub) -> None:
    terms = Terms("Gemma is provided under the Gemma Terms.", "https://terms.example", "https://policy.example")
    done = pushed(made, licence="gemma", terms=terms)
    assert "https://policy.example" in files(hub)["tiny/onnx-int8/TERMS.md"].decode()
    assert "Gemma is provided under" in files(hub)["README.md"].decode()
    assert [task for task in done.left_to_do if "Section 3.1" in task]


def test_what_nobody_could_take_is_not_pushed(made: Artifact, hub: Hub) -> None:
    with pytest.raises(PlaygroundError, match="compared with no original"):
        pushed(replace(made, fidelity=None))
    with pytest.raises(PlaygroundError, match="no graph that could be pushed"):
        pushed(replace(made, variant=Variant("tiny", "torch", "fp32")))
    assert cannot_push(replace(SPEC, source="path:/home/me/model.gguf"), VARIANT)
    assert cannot_push(SPEC, Variant("tiny", "torch", "fp32"))
    assert cannot_push(SPEC, VARIANT) is None


def test_a_repository_with_something_else_is_left_alone(made: Artifact, hub: Hub) -> None:
    hub.add(REPO, {"model.safetensors": b"theirs"})
    with pytest.raises(UsageError, match="holds something else"):
        pushed(made)
    assert set(files(hub)) == {"model.safetensors"}


# -- taken ----------------------------------------------------------------------------------------------------------


def test_it_is_taken_with_its_verdict_and_says_where_from_and_answers(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    done = pushed(made)
    got = take(tmp_path / "home")
    assert (got.variant, got.recipe, got.revision, got.fidelity) == (VARIANT, made.recipe, made.revision, made.fidelity)
    (note,) = got.notes
    assert REPO in note and done.commit[:12] in note and "was not compared with the original again" in note
    assert got.engine == made.engine
    both = [(Path(each.path) / "model.onnx.data").read_bytes() for each in (made, got)]
    assert both[0] == both[1]
    hub.close()  # it is here now
    assert take(tmp_path / "home") == got
    answers = []
    for each in (made, got):
        runtime = create_runtime("onnx")
        runtime.load(LoadSpec(SPEC, each, 1))
        try:
            events = runtime.generate(Request(prompt="the quick", max_new_tokens=8), lambda: False)
            answers.append("".join(event.text for event in events if event.kind == "token"))
        finally:
            runtime.close()
    assert answers[0] == answers[1] != ""


def test_the_app_sees_it_as_ready_without_the_original_weights(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    class Settings:
        home = tmp_path / "home"
        prepared_from = REPO
        strangers = False

    class Models:
        def resolve(self, text: str) -> tuple[ModelSpec, Variant]:
            return SPEC, VARIANT

    pushed(made)
    preparer = Preparer(Settings(), Models())
    try:
        assert preparer.state(VARIANT).status == "missing"
        found = preparer.prepare(VARIANT, quiet, lambda: False)
        state = preparer.state(VARIANT)
    finally:
        preparer.close()
    assert (state.status, state.artifact) == ("ready", found)
    assert not hub.seen("GET", "someone/tiny")


@pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")
def test_a_library_that_was_pushed_by_hand_is_never_loaded(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    pushed(made)
    document = manifest(hub)
    library = b"\x7fELF" + bytes(100)
    entry(document)["files"]["kernels.so"] = [len(library), hashlib.sha256(library).hexdigest()]
    rewrite(hub, document, {"tiny/onnx-int8/kernels.so": library})
    with pytest.raises(prepared.NotTaken, match=r"brings kernels\.so, which no artifact needs"):
        take(tmp_path / "home")
    assert not hub.seen("GET", r"/resolve/.*kernels\.so")


def manifest(hub: Hub) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files(hub)["prepared.json"])
    return document


def entry(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["artifacts"]["tiny@onnx-int8"]
    return found


def rewrite(hub: Hub, document: dict[str, Any], more: dict[str, bytes] | None = None) -> None:
    changed = {"prepared.json": json.dumps(document).encode(), **(more or {})}
    hub.repos[REPO].commit({**files(hub), **changed})


def set_to(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        place = entry(document)
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (set_to("artifact", "tool_versions", "transformers", value="4.0.0"), "made with transformers 4.0.0, here is 5"),
        (set_to("source", value="hub:mallory/tiny"), "is made of another model"),
        (set_to("schema", value=1), "another version of the playground"),
        (set_to("judge", value="0" * 16), "another version of the playground"),
        (set_to("artifact", "fidelity", "verdict", value="rejected"), "no comparison with the original"),
        (set_to("artifact", "fidelity", value=None), "no comparison with the original"),
        (set_to("artifact", "recipe", value="dynamic"), "by the recipe dynamic"),
        (set_to("folder", value="../../etc"), "its folder is called"),
        (set_to("files", "../../evil", value=[1, "0" * 64]), "which no artifact needs"),
        (set_to("files", "model.onnx.data", value=["x"]), "can't be read"),
        (lambda document: document.update(format=99), "another format"),
        (lambda document: document.update(artifacts=[]), "can't be read"),
        (lambda document: document["artifacts"].clear(), "has none of tiny@onnx-int8"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    made: Artifact, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    offered = prepared.offer(SPEC, made, "tiny/onnx-int8", "", "")
    document = json.loads(
        json.dumps({"kind": prepared.KIND, "format": prepared.FORMAT, "artifacts": {str(VARIANT): offered.to_json()}})
    )
    assert prepared.offered_for(SPEC, VARIANT, json.dumps(document).encode()) == offered
    change(document)
    with pytest.raises(prepared.NotTaken, match=told):
        prepared.offered_for(SPEC, VARIANT, json.dumps(document).encode())


def test_files_that_are_not_those_of_the_list_are_refused(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    pushed(made)
    document = manifest(hub)
    entry(document)["files"]["config.json"][1] = "0" * 64
    rewrite(hub, document)
    with pytest.raises(prepared.NotTaken, match=r"config\.json is not what its list promises"):
        take(tmp_path / "home")
    assert not list((tmp_path / "home" / "artifacts").glob("*"))


def test_another_revision_of_pinned_weights_is_refused(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    pinned = replace(SPEC, revision="sha256:" + "1" * 64)
    pushed(made, pinned)
    with pytest.raises(prepared.NotTaken, match="another revision of the weights"):
        take(tmp_path / "home", pinned)


@pytest.mark.fault
def test_a_damaged_graph_is_refused_and_nothing_of_it_stays(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    """Its checksums are right: whoever pushed it meant it so."""
    pushed(made)
    document, broken = manifest(hub), b"\x08\x08" + files(hub)["tiny/onnx-int8/model.onnx"][2:900]
    entry(document)["files"]["model.onnx"] = [len(broken), hashlib.sha256(broken).hexdigest()]
    rewrite(hub, document, {"tiny/onnx-int8/model.onnx": broken})
    with pytest.raises(prepared.NotTaken):
        take(tmp_path / "home")
    assert not list((tmp_path / "home" / "artifacts").glob("*")) and not list((tmp_path / "home" / "staging").glob("*"))


def test_bytes_that_changed_on_the_way_are_refused(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    pushed(made)
    hub.corrupt(REPO, "tiny/onnx-int8/model.onnx.data")
    with pytest.raises(prepared.NotTaken, match="other bytes than the Hub promises"):
        take(tmp_path / "home")


def test_what_can_not_be_taken_is_prepared_here_and_says_why(made: Artifact, hub: Hub, tmp_path: Path) -> None:
    source = tiny.write_model(tmp_path / "source")
    spec = replace(SPEC, source=f"path:{source}", upstream="")
    steps: list[str] = []
    got = pipeline.make(
        spec, VARIANT, tmp_path / "home", lambda step, _: steps.append(step), lambda: False, origin="me/nothing"
    )
    why = "Not taken from me/nothing, and prepared here:"
    assert [step for step in steps if step.startswith(why)]
    assert "importing" in steps
    assert [note for note in got.notes if note.startswith(why)]
    assert got.fidelity == made.fidelity


def test_it_is_looked_for_where_the_name_is_right(tmp_path: Path) -> None:
    with pytest.raises(PlaygroundError, match=r"not OWNER/NAME\[#REVISION\]"):
        prepared.origin_of("https://example.org/x", "app.prepared_from")
    assert prepared.origin_of("me/prepared#v1", "x").revision == "v1"
    assert cache.taken_folder(tmp_path, SPEC, VARIANT, "a/b") != cache.taken_folder(tmp_path, SPEC, VARIANT, "a/c")
