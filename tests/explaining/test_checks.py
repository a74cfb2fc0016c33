"""Methods must notice when a model forgets what it has learnt."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from vitcli.attention.registry import EVERY_METHOD, METHODS
from vitcli.attention.sanity import rank_correlation
from vitcli.attention.targets import ClassChoice
from vitcli.core.errors import DataError, ModelError, UsageError
from vitcli.core.events import TaskProgress
from vitcli.explaining.checks import cascade, check_methods, fresh_weights
from vitcli.explaining.explainer import explain
from vitcli.explaining.question import Question
from vitcli.explaining.scores import JudgedBatch
from vitcli.models.vit import VisionTransformer

ALL = Question(methods=EVERY_METHOD, steps=4)
OF_CLASSES = {name for name in EVERY_METHOD if METHODS[name].chooses_class}


@pytest.fixture(scope="module")
def rows(spotting):
    table = check_methods(spotting.model, [JudgedBatch(images=spotting.images)], ALL, total=48)
    assert table.images == 48
    assert [row.method for row in table.rows] == list(EVERY_METHOD)
    return {row.method: row for row in table.rows}


def test_stages_run_from_the_head_down(rows):
    for row in rows.values():
        assert [stage.name for stage in row.stages] == ["head", "layer 1", "layer 0", "embedding"]
        assert all(0 <= stage.correlation <= 1 + 1e-6 for stage in row.stages)


def test_maps_of_a_class_change_with_the_head_and_those_of_attention_alone_do_not(rows):
    for name, row in rows.items():
        if name in OF_CLASSES:
            assert row.stages[0].correlation < 0.99
            assert row.stages[-1].correlation < (1 + row.chance) / 2
            assert row.verdict == "passes"
            assert row.other_class < 0.99
        else:
            assert row.stages[0].correlation == pytest.approx(1)
            assert row.verdict == "ignores the class by construction"
            assert row.other_class is None
            assert row.text == ""


def test_chance_is_the_correlation_with_noise(rows):
    """For 12 patches it is about the square root of 2 / (pi * 11)."""
    for row in rows.values():
        assert row.chance == pytest.approx(0.24, abs=0.07)


def test_integrated_gradients_add_up_with_growing_steps(rows):
    steps, errors = zip(*((each.steps, each.error) for each in rows["ig"].completeness), strict=True)
    assert steps == (8, 16, 32, 64)
    assert list(errors) == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 < errors[0]
    enough = rows["ig"].enough_steps
    assert [error < 0.05 for error in errors] == [count >= enough for count in steps]
    assert f"--steps {enough} is enough: the map misses" in rows["ig"].text
    assert all(rows[name].completeness == () for name in rows if name != "ig")


def test_integrated_gradients_that_do_not_add_up_fail(spotting):
    """Of a model so steep that its gradients at 64 points say nothing of what lies between."""
    steep = deepcopy(spotting.model).requires_grad_(False)
    for layer in (steep.patch_embedding.projection, *(block.attention.qkv for block in steep.blocks)):
        layer.weight.mul_(300)
    (ig,) = check_methods(steep, [JudgedBatch(images=spotting.images[:8])], Question(methods=("ig",)), total=8).rows
    assert ig.stages[-1].correlation < (1 + ig.chance) / 2
    assert (ig.verdict, ig.enough_steps) == ("fails", None)
    assert "--steps 64 is not enough: the map misses" in ig.text


def test_a_map_that_does_not_change_fails(spotting):
    """A model that has not learnt anything has nothing to lose: it stands for a method that does not notice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        untrained = VisionTransformer(spotting.model.config).eval()
    judged = check_methods(untrained, [JudgedBatch(images=spotting.images[:8])], ALL, total=8, seed=5)
    for row in judged.rows:
        assert [stage.correlation for stage in row.stages] == pytest.approx([1] * 4)
        assert row.verdict == "fails"
        assert "the map shows the image, not the model" in row.text


def test_correlations_are_those_of_the_maps_of_the_same_class(spotting):
    """Asked by its index, of the model whose weights were replaced by hand."""
    model, images = spotting.model, spotting.images[:6]
    asked = Question(methods=("relevance",), choices=(ClassChoice(index=1),))
    before = explain(model, images, asked).maps["relevance"][:, 0]
    judged = check_methods(model, [JudgedBatch(images=images)], asked, total=6, seed=3)
    fresh = fresh_weights(model, seed=3)
    for stage, copy in zip(judged.rows[0].stages, cascade(model, fresh), strict=True):
        after = explain(copy, images, asked).maps["relevance"][:, 0]
        assert stage.correlation == pytest.approx(rank_correlation(before, after).abs().mean().item(), abs=1e-5)
    least = explain(model, images, replace(asked, choices=(ClassChoice(index=0),))).maps["relevance"][:, 0]
    assert judged.rows[0].other_class == pytest.approx(rank_correlation(before, least).mean().item(), abs=1e-5)


def test_the_class_stays_the_one_that_the_untouched_model_predicts(spotting):
    model = spotting.model
    by_class = {label: spotting.images[spotting.labels == label][:3] for label in (0, 1)}
    for label, images in by_class.items():
        assert (model(images).argmax(dim=1) == label).all()
        asked = Question(methods=("relevance", "ig") if label else ("relevance",), steps=4)
        predicted, named = (
            check_methods(model, [JudgedBatch(images=images)], replace(asked, choices=(choice,)), total=3)
            for choice in (ClassChoice(), ClassChoice(index=label))
        )
        assert predicted == named


def test_stages_replace_weights_one_after_the_other(spotting):
    model = spotting.model
    fresh = fresh_weights(model, seed=0)
    parts = ["head.", "norm.", "blocks.1.", "blocks.0.", "patch_embedding.", "class_token", "positions"]
    expected = [2, 3, 4, 7]
    for replaced, copy in zip(expected, cascade(model, fresh), strict=True):
        for key, weight in copy.state_dict().items():
            part = next(index for index, prefix in enumerate(parts) if key.startswith(prefix))
            assert torch.equal(weight, fresh[key] if part < replaced else model.state_dict()[key])


def test_the_model_and_the_random_numbers_of_others_are_left_as_they_were(spotting):
    model = spotting.model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        state = torch.get_rng_state()
        check_methods(model, [JudgedBatch(images=spotting.images[:2])], ALL, total=2)
        assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_even_maps_are_left_out_and_nothing_else_is_a_failure(spotting):
    """A head without weights gives every class the same score, and its gradients are 0."""
    mute = deepcopy(spotting.model)
    mute.head.requires_grad_(False)[-1].weight.zero_()
    images = spotting.images[:6]
    asked = Question(methods=("relevance", "raw"))
    relevance, raw = check_methods(mute, [JudgedBatch(images=images)], asked, total=6).rows
    assert (relevance.verdict, relevance.even_maps) == ("fails", 1)
    assert "all maps are even" in relevance.text
    assert (raw.verdict, raw.even_maps) == ("ignores the class by construction", 0)
    mixed, few_steps = torch.cat([images, images.new_zeros(2, *images.shape[1:])]), Question(methods=("ig",), steps=4)
    (ig,) = check_methods(spotting.model, [JudgedBatch(images=mixed)], few_steps, total=8).rows
    (without,) = check_methods(spotting.model, [JudgedBatch(images=images)], few_steps, total=6).rows
    assert ig.even_maps == 0.25  # the mean colour is the baseline: nothing changes on the way to it
    assert "25 % of the maps are even" in ig.text
    assert [stage.correlation for stage in ig.stages] == pytest.approx([stage.correlation for stage in without.stages])
    assert (ig.chance, ig.other_class) == pytest.approx((without.chance, without.other_class))


def test_batches_of_any_size_give_the_same_result(spotting):
    whole, parts = (
        check_methods(
            spotting.model, [JudgedBatch(images=part) for part in spotting.images[:3].split(size)], ALL, total=3
        )
        for size in (3, 2)
    )
    for one, other in zip(whole.rows, parts.rows, strict=True):
        assert (one.method, one.verdict) == (other.method, other.verdict)
        assert one.chance == pytest.approx(other.chance, abs=1e-5)
        assert [stage.correlation for stage in one.stages] == pytest.approx(
            [stage.correlation for stage in other.stages], abs=1e-4
        )


def test_progress_and_what_cannot_be_checked(spotting):
    events = []
    batches = [JudgedBatch(images=part) for part in spotting.images[:3].split(2)]
    check_methods(spotting.model, batches, Question(methods=("raw",)), total=3, emit=events.append)
    assert events == [TaskProgress(task="checking attention maps", done=done, total=3) for done in (0, 2, 3)]
    with pytest.raises(DataError, match="no images"):
        check_methods(spotting.model, [], ALL, total=0)
    with pytest.raises(UsageError, match="noise depends on nothing"):
        check_methods(spotting.model, batches, Question(methods=("random",)), total=3)
    headless = VisionTransformer(replace(spotting.model.config, num_classes=0)).eval()
    with pytest.raises(ModelError, match="no classifier"):
        check_methods(headless, batches, ALL, total=3)


def test_a_model_of_one_class_has_no_other_to_compare_with(spotting):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        single = VisionTransformer(replace(spotting.model.config, num_classes=1)).eval()
    (row,) = check_methods(single, [JudgedBatch(images=spotting.images[:4])], Question(methods=("ig",)), total=4).rows
    assert row.other_class is None
    assert row.verdict == "passes"
