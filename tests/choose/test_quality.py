"""Quality figures from cards, from files and from fidelity, and the Pareto front."""

from __future__ import annotations

import json
import random

import pytest

from playground.choose.quality import (
    MAX_BYTES,
    MAX_ROWS,
    Axis,
    card_scores,
    fidelity_scores,
    file_scores,
    pareto_front,
    vote_scores,
)
from playground.errors import UsageError
from playground.records import Fact, Fidelity, ModelFacts, Variant
from playground.results.figures import Figure, figure
from playground.results.ratings import Judgement, rate

A8, A4, AT = Variant("alpha", "onnx", "int8"), Variant("alpha", "onnx", "int4"), Variant("alpha", "torch", "fp32")
B8 = Variant("beta", "onnx", "int8")


def card(**scores: Fact) -> ModelFacts:
    return ModelFacts("m", quality={name.replace("_", "-"): fact for name, fact in scores.items()})


def score(value: object, owner: str = "one", note: str = "MMLU, 5-shot") -> Fact:
    return Fact(value, "published", f"https://huggingface.co/{owner}/model", "card", note)


def test_only_benchmarks_that_two_models_have_are_offered_and_the_others_are_named() -> None:
    facts = {A8: card(MMLU=score(40.0), GSM8K=score(3.0)), B8: card(MMLU=score(50)), Variant("c"): card()}
    (quality,) = card_scores(facts)
    assert quality.key == "card:MMLU"
    assert quality.lacking(facts) == (Variant("c"),)


def test_two_variants_of_one_model_are_not_two_models() -> None:
    assert card_scores({A8: card(MMLU=score(40.0)), A4: card(MMLU=score(40.0))}) == ()


def test_figures_of_several_publishers_or_settings_are_said_not_to_be_comparable() -> None:
    (same,) = card_scores({A8: card(MMLU=score(40.0)), B8: card(MMLU=score(50.0))})
    assert not any("source" in caution or "settings" in caution for caution in same.cautions)
    (mixed,) = card_scores({A8: card(MMLU=score(40.0)), B8: card(MMLU=score(50.0, "two", "MMLU, 0-shot"))})
    assert any("not comparable" in caution for caution in mixed.cautions)
    assert any("0-shot" in caution and "5-shot" in caution for caution in mixed.cautions)


def test_scores_that_are_no_numbers_are_not_drawn() -> None:
    assert card_scores({A8: card(MMLU=score("6.84 +/- 0.07")), B8: card(MMLU=score(6.0))}) == ()


def known(agreement: float) -> Fidelity:
    return Fidelity("torch-fp32", 512, agreement, 0.01, 1.0, "faithful")


def test_fidelity_is_offered_among_variants_of_one_model_and_the_reference_agrees_with_itself() -> None:
    (quality,) = fidelity_scores({A8: known(0.95), A4: known(0.7), AT: None, B8: known(0.99)})
    assert {name: fact.value for name, fact in quality.values.items()} == {
        str(A8): 95.0,
        str(A4): pytest.approx(70.0),
        str(AT): 100.0,
    }
    assert fidelity_scores({A8: known(0.95), B8: known(0.9)}) == ()


@pytest.mark.parametrize(
    "content",
    [
        "model,score\nalpha,1.5\nbeta,2\n",
        "\ufeffModel;Score\r\nalpha;1.5\r\n\r\nbeta;2\r\n",
        "score\tmodel\n1.5\talpha\n2\tbeta",
        '{"alpha": 1.5, "beta": 2}',
        '[{"model": "alpha", "score": 1.5}, {"score": "2", "model": "beta"}]',
    ],
)
def test_csv_and_json_say_the_same(content: str) -> None:
    quality = file_scores(content.encode(), "mine", [A8, B8])
    assert {name: fact.value for name, fact in quality.values.items()} == {str(A8): 1.5, str(B8): 2.0}


def test_a_line_for_a_variant_comes_before_one_for_its_model() -> None:
    quality = file_scores(b"model,score\nalpha,1\nalpha@onnx-int4,0.5", "mine", [A8, A4, B8], known=["beta"])
    assert [fact.value for fact in quality.values.values()] == [1.0, 0.5]
    assert quality.lacking([A8, A4, B8]) == (B8,)


def test_models_of_the_catalogue_may_stand_in_the_file_without_being_chosen() -> None:
    assert list(file_scores(b"model,score\nalpha,1\ngamma,2", "mine", [A8], known=["gamma"]).values) == [str(A8)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no scores"),
        (b"model,score\n", "no scores"),
        (b"name,value\nalpha,1", "line 1: the columns are 'name,value'"),
        (b"model,score\nalpha,1\nalpa,2", "line 3: unknown model 'alpa'. Did you mean alpha"),
        (b"model,score\nalpha,1\nalpha,2", "line 3: alpha stands twice"),
        (b"model,score\nalpha,nan", "line 2: alpha has nan"),
        (b"model,score\nalpha,inf", "alpha has inf"),
        (b"model,score\nalpha,", "alpha has nothing"),
        (b"model,score\nalpha,1_0", "alpha has 1_0"),
        (b"model;score\nalpha;1,5", "alpha has 1,5"),
        (b"model,score\nalpha,1,2", "line 2 has 3 fields"),
        (b'model,score\n"alpha,1', "can't be read as CSV"),
        (b"model,score\nalpha,\xff", "not UTF-8"),
        (b'{"alpha": 1, "alpha": 2}', "entry 2: alpha stands twice"),
        (b'{"alpha": NaN}', "alpha has nan"),
        (b'{"alpha": true}', "alpha has True"),
        (b'{"alpha": 1e999}', "alpha has inf"),
        (b'{"alpha": [1]}', "alpha has [1]"),
        (b'{"alpha": 1', "can't be read as JSON"),
        (b'["alpha"]', "entry 1 is not a model and its score"),
        (b'[{"model": 3, "score": 1}]', "entry 1 is not a model"),
        (b"[" * 100_000, "JSON"),
        (b"x" * (MAX_BYTES + 1), "1,000,001 bytes"),
        (json.dumps({f"m{i}": i for i in range(MAX_ROWS + 1)}).encode(), "1,001 scores"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(content: bytes, says: str) -> None:
    with pytest.raises(UsageError) as error:
        file_scores(content, "mine.csv", [A8, B8])
    assert says in str(error.value)
    assert str(error.value).startswith("mine.csv")


AXES = [Axis("quality", higher=True), Axis("ttft", higher=False)]


def point(quality: float, *ttft: float) -> dict[str, Figure]:
    return {"quality": figure("quality", "", [quality]), "ttft": figure("ttft", "s", ttft)}


def test_the_front_holds_whoever_nobody_beats() -> None:
    points = {"best": point(50, 1.0), "small": point(20, 0.2), "worse": point(40, 1.5), "same": point(50, 1.0)}
    assert pareto_front(AXES, points) == {"best", "small", "same"}
    assert pareto_front(AXES, {}) == frozenset()


def test_a_difference_within_the_spread_beats_nobody() -> None:
    points = {"a": point(50, 1.0, 1.1, 1.2), "b": point(50, 1.05, 1.15, 1.25), "c": point(50, 1.5, 1.6, 1.7)}
    assert pareto_front(AXES, points) == {"a", "b"}


def test_a_better_median_elsewhere_still_needs_to_be_as_good_everywhere() -> None:
    assert pareto_front(AXES, {"good": point(51, 1.2, 1.3), "quick": point(50, 1.0, 1.1)}) == {"good", "quick"}


def test_on_random_points_without_spread_the_front_is_that_of_the_definition() -> None:
    rng = random.Random(7)
    for _ in range(50):
        points = {str(i): point(rng.randint(0, 6), rng.randint(1, 6)) for i in range(8)}
        plain = {name: (p["quality"].median, -p["ttft"].median) for name, p in points.items()}
        expected = {
            name
            for name, mine in plain.items()
            if not any(
                other != mine and all(o >= m for o, m in zip(other, mine, strict=True)) for other in plain.values()
            )
        }
        assert pareto_front(AXES, points) == expected
        assert expected, "somebody is always on the front"


def votes_for(first: Variant, second: Variant, times: int) -> list[Judgement]:
    return [Judgement((str(first), str(second)), "best", 0)] * times


def test_votes_are_a_quality_figure_from_five_on_with_interval_and_number() -> None:
    assert vote_scores(rate([]), [A8, B8]) == ()
    assert vote_scores(rate(votes_for(A8, B8, 4)), [A8, B8]) == ()
    (quality,) = vote_scores(rate(votes_for(A8, B8, 5)), [A8, B8, A4])
    assert (quality.key, quality.lacking([A8, B8, A4])) == ("votes", (A4,))
    fact = quality.values[str(A8)]
    assert fact.value == pytest.approx(600 / 7, abs=1e-3)
    assert "5 votes" in fact.note and "Your own" in fact.source
    low, high = quality.intervals[str(A8)]
    assert 50 < low < fact.value < high
    assert any("no benchmark" in caution for caution in quality.cautions)


def test_votes_on_models_that_are_not_asked_about_are_no_figure() -> None:
    assert vote_scores(rate(votes_for(A8, B8, 9)), [A8, A4]) == ()


def test_votes_of_groups_that_were_never_compared_are_not_put_on_one_axis() -> None:
    cast = [*votes_for(A8, B8, 6), *votes_for(A4, AT, 5)]
    (quality,) = vote_scores(rate(cast), [A8, B8, A4, AT])
    assert set(quality.values) == {str(A8), str(B8)}
    assert any("left out" in caution for caution in quality.cautions)
