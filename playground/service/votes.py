"""Blind votes: what may be seen of a comparison before its owner's vote, the vote, and what all votes say together.

Whatever leaves the service of a comparison that still waits for its vote is blind: a front end that draws, lists or
exports it has nothing to give away. What goes on from it has to wait for the vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from playground.errors import UsageError
from playground.experiments.blind import BlindJob, shuffled
from playground.experiments.compare import CompareJob
from playground.experiments.replay import ReplayJob
from playground.experiments.token_view import TokenViewJob
from playground.experiments.turns import ContextUse, Turn
from playground.messages import msg
from playground.records import Column, Comparison, Mode, Request, Variant
from playground.results.blind import answered, blinded
from playground.results.comparator import arena_jsonl
from playground.results.entries import Entry
from playground.results.ratings import Outcome, Ratings, rate
from playground.results.votes import By, Vote, Votes, cast, not_voted_on, to_csv, to_jsonl
from playground.service.experiments import Experiments
from playground.service.history import History


class Voting(Experiments, History):
    """A part of ``Playground``: what is hidden until a vote, and the votes. All raise StorageError if the file can't be
    read, or written.
    """

    votes_kept: Votes

    def compare_blind(
        self, request: Request, columns: Sequence[Variant | Column], mode: Mode = "fair", *, owner: str = ""
    ) -> BlindJob:
        """Begin a comparison whose columns are shuffled and nameless until ``owner`` has voted.

        Raises:
            UsageError: As ``compare``; or there are fewer than two columns.
            StorageError: The vote could not be kept; nothing was begun that goes on.
        """
        if len(columns) < 2:
            raise UsageError(msg("A vote needs two answers or more"), msg("Choose another model."))
        turn = Turn(request, tuple(shuffled(columns)), mode)
        job = self._begin(turn, owner, note=lambda id: self.votes_kept.begin(id, owner, _now()))
        return BlindJob(job)

    def blind(self, id: str) -> bool:
        """Whether a comparison waits for its vote. One with fewer than two answers has nothing to wait for."""
        if self.votes_kept.awaited(id) is None:
            return False
        if super().running(id):
            return True
        found = self.store.get(id)
        return found is None or sum(map(answered, found.runs)) > 1

    def may_vote(self, id: str, owner: str) -> bool:
        """Whether that visitor's vote is waited for."""
        waits_for = self.votes_kept.awaited(id)
        return waits_for is not None and waits_for == self._voter(owner, waits_for) and self.blind(id)

    def vote(
        self, id: str, owner: str, outcome: Outcome, best: int | None = None, *, tag: str = "", note: str = ""
    ) -> Vote:
        """Vote on a blind comparison, or change the vote; what is chosen anew after the first vote is not blind.

        Args:
            best: The column chosen, for ``best``.

        Raises:
            UsageError: It is still running, takes no vote of this visitor, or the vote means nothing.
        """
        if super().running(id):
            raise UsageError(msg("The models are still answering"), msg("Vote when all answers are there."))
        found = self.store.get(id)
        if found is None:
            raise not_voted_on()
        kept = self.votes_kept.get(id)
        whose = kept.owner if kept else self.votes_kept.awaited(id) or ""
        voter = self._voter(owner, whose)
        return self.votes_kept.put(cast(found, outcome, best, at=_now(), owner=voter, tag=tag, note=note))

    def vote_on(self, id: str) -> Vote | None:
        """The vote on a comparison, once there is one."""
        return self.votes_kept.get(id)

    def voted(self, id: str, owner: str) -> bool:
        """Whether the vote on a comparison is that visitor's: what they chose and noted is for their eyes."""
        kept = self.votes_kept.get(id)
        return kept is not None and (not self.settings.strangers or (bool(owner) and kept.owner == owner))

    def votes(self, owner: str) -> list[Vote]:
        """A visitor's votes, the oldest first."""
        return [] if self._nobody(owner) else self.votes_kept.kept(self._whose(owner))

    def vote_tags(self, owner: str) -> list[str]:
        """The tags of a visitor's votes, in their order."""
        return sorted({vote.tag for vote in self.votes(owner) if vote.tag})

    def ratings(self, owner: str, by: By = "variant", tag: str = "") -> Ratings:
        """What a visitor's blind votes say of the models together.

        Args:
            tag: Only votes on prompts with this tag; all where empty.
        """
        counted = [vote for vote in self.votes(owner) if vote.blind and tag in ("", vote.tag)]
        return rate(vote.judgement(by) for vote in counted)

    def export_votes(self, owner: str, form: Literal["csv", "jsonl", "arena"]) -> str:
        """A visitor's votes as a file: a line a pair; ``arena`` has both conversations in it."""
        votes = self.votes(owner)
        if form == "arena":
            return "".join(arena_jsonl(votes, self.store.get))
        return to_csv(votes) if form == "csv" else to_jsonl(votes)

    def _voter(self, owner: str, whose: str) -> str:
        """On one's own machine every vote is one's own."""
        return owner if self.settings.strangers else whose

    # -- what has to wait for the vote --------------------------------------------------------------------------------

    def reply(
        self, stored: Comparison, text: str, columns: Sequence[int] | None = None, *, owner: str = ""
    ) -> CompareJob:
        self._sighted(stored)
        return super().reply(stored, text, columns, owner=owner)

    def resend(
        self, stored: Comparison, turn: int, text: str, columns: Sequence[int] | None = None, *, owner: str = ""
    ) -> CompareJob:
        self._sighted(stored)
        return super().resend(stored, turn, text, columns, owner=owner)

    def again(self, stored: Comparison, column: int, *, request: Request | None = None, owner: str = "") -> CompareJob:
        self._sighted(stored)
        return super().again(stored, column, request=request, owner=owner)

    def go_on(
        self, stored: Comparison, column: int, *, at: int | None = None, token: int | None = None, owner: str = ""
    ) -> CompareJob:
        self._sighted(stored)
        return super().go_on(stored, column, at=at, token=token, owner=owner)

    def compare(
        self,
        request: Request,
        columns: Sequence[Variant | Column],
        mode: Mode = "fair",
        *,
        owner: str = "",
        parent: Comparison | None = None,
        keep: bool = True,
    ) -> CompareJob:
        if parent:
            self._sighted(parent)
        return super().compare(request, columns, mode, owner=owner, parent=parent, keep=keep)

    def context_use(self, stored: Comparison, column: int) -> ContextUse | None:
        return None if self.blind(stored.id) else super().context_use(stored, column)

    def replay(self, stored: Comparison, *, owner: str = "") -> ReplayJob:
        self._sighted(stored)
        return super().replay(stored, owner=owner)

    def token_view(self, stored: Comparison, column: int, *, owner: str = "") -> TokenViewJob:
        self._sighted(stored)
        return super().token_view(stored, column, owner=owner)

    # -- what others may see ----------------------------------------------------------------------------------------

    def running(self, id: str) -> CompareJob | BlindJob | None:  # type: ignore[override]
        job = super().running(id)
        return BlindJob(job) if job and self.votes_kept.awaited(id) is not None else job

    def comparison(self, id: str) -> Comparison | None:
        found = super().comparison(id)
        return self._seen(found, hidden=self.blind(id)) if found else None

    def comparisons(self, limit: int) -> list[Comparison]:
        waiting = self.votes_kept.all_awaited()
        return [
            self._seen(each, hidden=each.id in waiting and self.blind(each.id)) for each in super().comparisons(limit)
        ]

    def history(
        self,
        owner: str,
        *,
        search: str = "",
        model: str = "",
        favourites: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Entry]:
        found = super().history(owner, search=search, model=model, favourites=favourites, limit=limit, offset=offset)
        waiting = self.votes_kept.all_awaited()
        if search.strip():  # a word that is found before the end would tell who was fast
            found = [each for each in found if not (each.running and each.id in waiting)]
        return [self._listed(each) if each.id in waiting else each for each in found]

    def history_entry(self, id: str) -> Entry | None:
        found = super().history_entry(id)
        return self._listed(found) if found else None

    def _listed(self, entry: Entry) -> Entry:
        """Which models were asked is no secret, but their order is."""
        return replace(entry, variants=tuple(sorted(entry.variants, key=str))) if self.blind(entry.id) else entry

    def _seen(self, comparison: Comparison, *, hidden: bool) -> Comparison:
        if not hidden:
            return comparison
        if super().running(comparison.id):  # which of them are done would tell how fast each is
            return replace(blinded(comparison), runs=())
        return blinded(comparison)

    def _sighted(self, stored: Comparison) -> None:
        """Refuse to go on from what is blind.

        Raises:
            UsageError: It waits for its vote.
        """
        if self.blind(stored.id):
            raise UsageError(msg("These answers wait for your vote"), msg("Vote, and go on from there."))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
