"""Where strangers come, each lists, changes and stops what is theirs, whatever they send; who is nobody has nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from playground.errors import UsageError
from playground.records import Request
from playground.service import Playground
from playground.ui import jobs
from tests.conftest import MakeSettings

pytestmark = [pytest.mark.parallel, pytest.mark.hostile]

ASK = Request("A secret of Ann's", max_new_tokens=3)


@pytest.fixture
def public(make_settings: MakeSettings) -> Iterator[Playground]:
    with Playground(make_settings(PLAYGROUND_AUDIENCE="public")) as playground:
        yield playground


def kept(playground: Playground, owner: str) -> str:
    """The id of a comparison that has ended and is in its owner's list."""
    job = playground.compare(ASK, playground.variants(["fast"]), owner=owner)
    job.result()
    return job.id


@pytest.mark.parametrize("other", ["bob", "", "ann ", "ANN", "%", "login:ann"])
def test_nobody_else_lists_finds_or_changes_it(public: Playground, other: str) -> None:
    id, nobodys = kept(public, "ann"), kept(public, "")
    assert [entry.id for entry in public.history("ann")] == [id]
    for found in (public.history(other), public.history(other, search="secret"), public.history(other, model="fast")):
        assert found == []
    assert public.history_models(other) == [] != public.history_models("ann")
    for each in (id, nobodys):
        for change in (
            lambda each=each: public.rename(each, other, "Stolen"),
            lambda each=each: public.set_favourite(each, other, True),
            lambda each=each: public.delete(each, other),
        ):
            with pytest.raises(UsageError, match="not in your history"):
                change()
    public.claim([id], other)
    assert not public.owns(id, other) and public.owns(id, "ann")
    (entry,) = public.history("ann")
    assert (entry.title, entry.favourite) == ("", False)


@pytest.mark.parametrize("other", ["bob", ""])
def test_nobody_else_stops_what_goes_on(public: Playground, other: str) -> None:
    job = public.compare(replace(ASK, max_new_tokens=200), public.variants(["slow"]), owner="ann")
    with pytest.raises(UsageError, match="somebody else's"):
        jobs.stop(public, job.id, other)
    assert not public.owns(job.id, other)
    assert jobs.stop(public, job.id, "ann")
    assert job.result().runs[0].finish_reason == "stopped"
