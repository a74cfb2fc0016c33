"""Which method to trust: of a model of which it is known where it must look, and of made-up scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitcli.attention.evidence import Options
from vitcli.attention.faithfulness import HIGHER_IS_BETTER, score_maps
from vitcli.attention.registry import EVERY_METHOD, METHODS
from vitcli.attention.targets import ClassChoice
from vitcli.core.errors import DataError, ModelError, UsageError
from vitcli.core.events import TaskProgress
from vitcli.explaining.explainer import explain
from vitcli.explaining.question import Question
from vitcli.explaining.scores import ENOUGH, ImageScores, JudgedBatch, score_methods, summarise
from vitcli.models.vit import VisionTransformer

ALL = Question(methods=EVERY_METHOD)
TWO = Question(methods=("ig", "rollout"))


@pytest.fixture(scope="module")
def table(spotting):
    model, images, labels, masks = spotting
    return score_methods(model, [JudgedBatch(images=images, labels=labels, masks=masks)], ALL, total=len(images))


def test_every_method_has_a_row_and_noise_the_last(table):
    assert {row.method for row in table.rows} == set(METHODS)
    assert table.rows[-1].method == "random"
    gains = [row.gain.mean for row in table.rows[:-1]]
    assert gains == sorted(gains, reverse=True)
    for row in table.rows:
        assert list(row.scores) == [*HIGHER_IS_BETTER, "sink_share", "points_at", "energy_inside"]
        for score in row.scores.values():
            assert 0 <= score.value.low <= score.value.mean <= score.value.high <= 1 + 1e-6


def test_what_finds_the_only_patch_that_counts_is_trusted(table):
    trusted = next(row for row in table.rows if row.method == table.trusted)
    assert trusted.beats_random
    assert trusted.scores["points_at"].value.mean == 1
    assert trusted.scores["points_at"].gain.low > 0.8
    assert f"trust {table.trusted}: " in table.verdict
    assert f"{table.images} images" in table.verdict


def test_noise_gains_nothing_over_itself_and_is_never_trusted(table):
    noise = table.rows[-1]
    assert not noise.beats_random
    assert (noise.gain.low, noise.gain.mean, noise.gain.high) == (0, 0, 0)
    assert noise.scores["points_at"].value.mean == pytest.approx(1 / 12, abs=0.1)


def test_noise_alone_gives_no_one_to_trust(spotting):
    judged = score_methods(
        spotting.model, [JudgedBatch(images=spotting.images)], Question(methods=("random",)), total=48
    )
    assert [row.method for row in judged.rows] == ["random"]
    assert judged.trusted == ""
    assert "trust none" in judged.verdict


def test_a_score_is_that_of_the_map_that_explain_draws(spotting, table):
    model, images, labels, _ = spotting
    maps = explain(model, images, Question(methods=(*EVERY_METHOD, "random")), seeds=range(len(images))).maps
    for index in (0, 7):
        for method in ("ig", "relevance", "random"):
            scores = score_maps(
                lambda pictures: model(pictures).detach(),
                images[index],
                maps[method][index],
                target=table.per_image[index].target,
                expected=int(labels[index]),
                seed=index,
            )
            stored = table.per_image[index].scores[method]
            for name, value in scores.items():
                assert stored[name] == pytest.approx(value.item(), abs=1e-5)


def test_single_images_score_as_in_batches_and_every_time(spotting):
    model, images, labels, masks = spotting
    together, *singles = (
        score_methods(
            model,
            [JudgedBatch(images=images[part], labels=labels[part], masks=masks[part]) for part in parts],
            ALL,
            total=3,
        )
        for parts in ([slice(3)], [slice(1), slice(1, 2), slice(2, 3)])
    )
    for batched, single in zip(together.per_image, singles[0].per_image, strict=True):
        assert (batched.image, batched.target) == (single.image, single.target)
        for method, scores in batched.scores.items():
            assert scores == pytest.approx(single.scores[method], abs=1e-5)


def test_without_labels_the_class_that_is_asked_for_counts_as_right(spotting):
    model, images, _, _ = spotting
    predicted = score_methods(model, [JudgedBatch(images=images[:4])], TWO, total=4)
    other = score_methods(
        model, [JudgedBatch(images=images[:4])], replace(TWO, choices=(ClassChoice(rank=1),)), total=4
    )
    labelled = score_methods(
        model,
        [JudgedBatch(images=images[:4], labels=torch.tensor([i.target for i in predicted.per_image]))],
        TWO,
        total=4,
    )
    assert labelled.per_image == predicted.per_image
    for asked, unlikely in zip(predicted.per_image, other.per_image, strict=True):
        assert asked.target == 1 - unlikely.target
        assert asked.scores["rollout"]["deletion"] == pytest.approx(
            1 - unlikely.scores["rollout"]["deletion"], abs=1e-5
        )
        assert asked.scores["rollout"]["positive"] == pytest.approx(
            1 - unlikely.scores["rollout"]["positive"], abs=1e-6
        )


def test_labels_decide_which_answers_are_right(spotting):
    model, images, _, _ = spotting
    predicted = score_methods(model, [JudgedBatch(images=images[:4])], TWO, total=4).per_image
    wrong = torch.tensor([1 - image.target for image in predicted])
    judged = score_methods(model, [JudgedBatch(images=images[:4], labels=wrong)], TWO, total=4).per_image
    for one, other in zip(predicted, judged, strict=True):
        for method, scores in one.scores.items():
            assert other.scores[method]["positive"] == pytest.approx(1 - scores["positive"], abs=1e-6)
            assert other.scores[method]["negative"] == pytest.approx(1 - scores["negative"], abs=1e-6)
            assert other.scores[method]["insertion"] == scores["insertion"]


def test_the_model_is_left_as_it_was(spotting):
    model = spotting.model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    score_methods(model, [JudgedBatch(images=spotting.images[:2])], ALL, total=2)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_progress_is_counted_by_images(spotting):
    events = []
    batches = [JudgedBatch(images=part) for part in spotting.images[:5].split(2)]
    score_methods(spotting.model, batches, TWO, total=5, emit=events.append)
    assert events == [TaskProgress(task="scoring attention maps", done=done, total=5) for done in range(6)]


def test_what_no_class_can_judge_is_refused(spotting):
    model, batches = spotting.model, [JudgedBatch(images=spotting.images[:1])]
    with pytest.raises(UsageError, match="cannot be combined"):
        score_methods(model, batches, Question(methods=("raw",), query=1), total=1)
    with pytest.raises(UsageError, match="not 2"):
        score_methods(model, batches, replace(TWO, choices=(ClassChoice(), ClassChoice(rank=1))), total=1)
    with pytest.raises(UsageError, match="discard"):
        score_methods(model, batches, replace(TWO, options=Options(discard=2)), total=1)
    with pytest.raises(DataError, match="no images"):
        score_methods(model, [], TWO, total=0)
    for change, message in (({"num_classes": 0}, "no classifier"), ({"patch_size": (12, 16)}, "single patch")):
        unfit = VisionTransformer(replace(model.config, **change)).eval()
        with pytest.raises(ModelError, match=message):
            score_methods(unfit, batches, TWO, total=1)


def made_up(gains, *, images, spread=0.05, seed=0):
    """Scores of methods that are so much better than noise, on average."""
    generator = np.random.default_rng(seed)
    signs = {name: 1 if is_higher else -1 for name, is_higher in HIGHER_IS_BETTER.items()}
    return [
        ImageScores(
            image=index,
            target=0,
            scores={
                method: {
                    **{name: 0.5 + sign * gain + generator.normal(0, spread) for name, sign in signs.items()},
                    "sink_share": 0.25,
                }
                for method, gain in {**gains, "random": 0}.items()
            },
        )
        for index in range(images)
    ]


def shifted(scores, by):
    """The same, so much better."""
    return {name: value + by * (1 if HIGHER_IS_BETTER.get(name, True) else -1) for name, value in scores.items()}


def test_the_greatest_gain_over_noise_is_trusted_and_what_may_be_as_good_is_named():
    table = summarise(made_up({"raw": 0.1, "ig": 0.2, "legrad": 0.199, "classic": 0}, images=100))
    assert [row.method for row in table.rows[2:]] == ["raw", "classic", "random"]
    assert {table.trusted, *table.tied} == {"ig", "legrad"}
    assert [row.beats_random for row in table.rows] == [True, True, True, False, False]
    assert f"{table.tied[0]} may be as good" in table.verdict


def test_a_great_gain_that_luck_may_have_made_is_not_trusted():
    lucky = [0.6 if each.image < 3 else 0.0 for each in made_up({"raw": 0.0}, images=60)]
    images = [
        replace(each, scores={"raw": shifted(each.scores["random"], by), **each.scores})
        for each, by in zip(made_up({"ig": 0.02}, images=60, spread=0.001), lucky, strict=True)
    ]
    table = summarise(images)
    assert [row.method for row in table.rows] == ["raw", "ig", "random"]
    assert [row.beats_random for row in table.rows] == [False, True, False]
    assert (table.trusted, table.tied) == ("ig", ())
    assert table.verdict.startswith("trust ig: its scores are 0.020 better")


def test_the_more_methods_the_wider_their_intervals_are():
    many = made_up(dict.fromkeys(EVERY_METHOD, 0.1), images=40)
    one = [replace(each, scores={name: each.scores[name] for name in ("ig", "random")}) for each in many]
    among_many = next(row for row in summarise(many).rows if row.method == "ig")
    alone = summarise(one).rows[0]
    assert alone.gain.mean == pytest.approx(among_many.gain.mean)
    assert among_many.gain.low < alone.gain.low - 0.002
    assert alone.scores["deletion"].gain.low == pytest.approx(among_many.scores["deletion"].gain.low, abs=1e-3)


def test_scores_are_turned_so_that_a_gain_is_better():
    (row, _) = summarise(made_up({"ig": 0.2}, images=200)).rows
    for name, is_higher in HIGHER_IS_BETTER.items():
        assert row.scores[name].value.mean == pytest.approx(0.7 if is_higher else 0.3, abs=0.02)
        assert row.scores[name].gain.mean == pytest.approx(0.2, abs=0.02)
    assert row.gain.mean == pytest.approx(np.mean([row.scores[name].gain.mean for name in HIGHER_IS_BETTER]))
    assert row.scores["sink_share"].value.mean == 0.25
    assert row.scores["sink_share"].gain is None


def test_few_images_are_not_enough_whatever_they_say():
    few, enough = (summarise(made_up({"ig": 0.4}, images=count)) for count in (ENOUGH - 1, ENOUGH))
    assert (few.trusted, few.rows[0].beats_random) == ("", False)
    assert "too few" in few.verdict
    assert enough.trusted == "ig"
    assert "score 200 or more (--limit 200) before you decide" in enough.verdict
    assert "200" not in summarise(made_up({"ig": 0.4}, images=200)).verdict.replace("200 images", "")
    assert summarise(made_up({"ig": 0.4}, images=1)).verdict.startswith("1 image:")


def test_a_method_worse_than_noise_is_not_trusted():
    table = summarise(made_up({"ig": -0.2}, images=50))
    assert (table.trusted, table.tied) == ("", ())
    assert "trust none" in table.verdict


def test_of_many_methods_at_chance_seldom_one_is_trusted():
    names = dict.fromkeys(EVERY_METHOD, 0.0)
    trusted = [summarise(made_up(names, images=40, spread=0.2, seed=seed)).trusted for seed in range(10)]
    assert sum(map(bool, trusted)) <= 1


def test_intervals_of_gains_are_paired():
    """What makes an image easy for all methods alike does not count against the difference."""
    images = made_up({"ig": 0.05}, images=60, spread=0.001)
    shift = np.random.default_rng(1).normal(0, 0.3, size=60)
    moved = [
        replace(each, scores={method: shifted(scores, by) for method, scores in each.scores.items()})
        for each, by in zip(images, shift, strict=True)
    ]
    row = summarise(moved).rows[0]
    assert row.scores["insertion"].value.high - row.scores["insertion"].value.low > 0.1
    assert row.scores["insertion"].gain.high - row.scores["insertion"].gain.low < 0.01
    assert math.isclose(row.gain.mean, 0.05, abs_tol=0.005)
