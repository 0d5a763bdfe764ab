"""The small Hub of the tests behaves towards the real client as the Hub does."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.support.hub_server import READER, STRANGER, Hub, tiny_llama

pytestmark = pytest.mark.waits


def test_information_revision_tree_and_card_are_read_by_the_real_client(hub: Hub) -> None:
    repo = hub.add("someone/tiny", tiny_llama(), info={"cardData": {"license": "apache-2.0"}, "tags": ["code"]})
    first = repo.sha
    repo.refs["v1"] = first
    second = repo.commit(tiny_llama(seed=1))
    api = HfApi()
    assert api.model_info("someone/tiny").sha == second
    assert api.model_info("someone/tiny", revision="v1").sha == first
    info = api.model_info("someone/tiny", files_metadata=True)
    assert {file.rfilename: file.size for file in info.siblings or ()}["LICENSE"] == 28
    assert api.model_info("someone/tiny", expand=["sha", "tags"]).tags == ["code"]
    tree = {entry.path: entry for entry in api.list_repo_tree("someone/tiny", recursive=True)}
    assert tree["model.safetensors"].lfs.size == tree["model.safetensors"].size  # type: ignore[union-attr]
    assert [file.path for file in api.get_paths_info("someone/tiny", ["config.json"])] == ["config.json"]
    assert ModelCard.load("someone/tiny").data.license == "apache-2.0"


def test_a_snapshot_has_the_bytes_and_the_token_does_not_go_to_the_cdn(hub: Hub) -> None:
    files = tiny_llama(shards=2)
    hub.add("someone/tiny", files, private=True)
    folder = Path(snapshot_download("someone/tiny", token=READER))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    cdn = hub.seen("GET", "^/cdn/")
    assert cdn
    assert not any("authorization" in each.headers for each in cdn)
    assert any("authorization" in each.headers for each in hub.seen("HEAD", "resolve"))


@pytest.mark.parametrize(
    ("name", "token", "error"),
    [
        ("someone/missing", None, RepositoryNotFoundError),
        ("someone/missing", STRANGER, RepositoryNotFoundError),
        ("someone/private", STRANGER, RepositoryNotFoundError),
        ("someone/gated", None, GatedRepoError),
        ("someone/gated", STRANGER, GatedRepoError),
    ],
)
def test_refusals_are_the_ones_the_client_knows(hub: Hub, name: str, token: str, error: type[Exception]) -> None:
    hub.add("someone/private", tiny_llama(), private=True)
    hub.add("someone/gated", tiny_llama(), gated="manual")
    with pytest.raises(error):
        hf_hub_download(name, "config.json", token=token)
    if name == "someone/gated":
        assert HfApi().model_info(name).gated == "manual"
        assert hf_hub_download(name, "config.json", token=READER)


def test_renames_wrong_revisions_and_faults(hub: Hub) -> None:
    hub.add("someone/new", tiny_llama())
    hub.rename("someone/old", "someone/new")
    assert HfApi().model_info("someone/old").id == "someone/new"
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info("someone/new", revision="no-such-branch")
    hub.fail("/api/models/someone/new", status=500, times=1)
    with pytest.raises(HfHubHTTPError, match="500"):
        HfApi().model_info("someone/new")
    assert HfApi().model_info("someone/new").id == "someone/new"


def test_a_dropped_connection_is_carried_on_by_range(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # what the client had not handed out yet is lost
    files = tiny_llama()
    hub.add("someone/tiny", files)
    hub.drop("cdn/.*safetensors", after=50_000)
    path = Path(hf_hub_download("someone/tiny", "model.safetensors"))
    assert path.read_bytes() == files["model.safetensors"]
    ranges = [each.headers.get("range") for each in hub.seen("GET", "cdn/.*safetensors")]
    assert ranges[0] is None
    assert ranges[1] == "bytes=50000-"
