"""Maps of whole models, against what can be said of them without any trained weight."""

import pytest
import torch

from vitcli.attention.evidence import Options
from vitcli.attention.registry import EVERY_METHOD, METHODS
from vitcli.attention.targets import ClassChoice, class_scores
from vitcli.core.errors import ModelError, UsageError
from vitcli.core.model_config import ModelConfig
from vitcli.explaining.explainer import Explainer, explain
from vitcli.explaining.question import Question
from vitcli.models.layers import fused_attention
from vitcli.models.vit import VisionTransformer

TINY = {
    "image_size": (8, 12),
    "patch_size": (4, 4),
    "num_classes": 5,
    "width": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_width": 32,
    "init_std": 0.3,
}
CONFIGS = {
    "class token": {"pooling": "class", "class_token": True},
    "mean of patches": {"class_token": False, "pooling": "patches"},
    "mean of tokens": {"class_token": True, "pooling": "tokens"},
    "registers": {"num_registers": 3, "pooling": "class", "class_token": True},
    "distilled": {"distillation": "head", "pooling": "class", "class_token": True},
    "post-norm": {"block_norm": "post"},
    "post-norm, mean of patches": {"block_norm": "post", "class_token": False, "pooling": "patches"},
    "pooled norm": {"class_token": False, "pooling": "patches", "final_norm": "pooled"},
    "no final norm": {"final_norm": "none"},
    "convolution in the MLP": {"mlp_conv": 3, "num_registers": 2, "pooling": "tokens"},
}
OF_CLASSES = [name for name, entry in METHODS.items() if entry.chooses_class]


def build(**changes):
    torch.manual_seed(0)
    model = VisionTransformer(ModelConfig(**{**TINY, **changes})).double().eval()
    for name, parameter in model.named_parameters():
        if ".conv." in name:  # at first it changes nothing
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(params=CONFIGS)
def model(request):
    return build(**CONFIGS[request.param])


def images(batch=3):
    return torch.randn(batch, 3, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def question(*methods, **changes):
    """Of few steps, because only the maps of integrated gradients themselves depend on their number."""
    return Question(methods=methods or EVERY_METHOD, **{"steps": 3, **changes})


TWO = (ClassChoice(index=1), ClassChoice(rank=0))


def test_every_method_gives_every_image_and_class_a_map(model):
    found = explain(model, images(), question(*METHODS, choices=TWO))
    torch.testing.assert_close(found.logits, model(images()))
    assert found.targets.tolist() == [[1, best] for best in found.logits.argmax(dim=1).tolist()]
    for method, weights in found.maps.items():
        assert weights.shape == (3, 2 if METHODS[method].chooses_class else 1, 2, 3)
        assert weights.isfinite().all()
        assert weights.any()
        assert not weights.requires_grad
        shares = found.prefix_shares[method]
        assert shares.shape == weights.shape[:2]
        assert ((shares >= 0) & (shares <= 1)).all()


def test_an_image_of_a_batch_has_the_maps_that_it_has_alone(model):
    """The second of four: others come before and after it, and a batch in reverse has another in its place."""
    four = images(batch=4)
    together = explain(model, four, question(*METHODS, choices=TWO)).maps
    alone = explain(model, four[[1]], question(*METHODS, choices=TWO), seeds=[1]).maps
    for method in METHODS:
        torch.testing.assert_close(alone[method][0], together[method][1])


@pytest.mark.parametrize(("name", "layers"), [*((name, ()) for name in CONFIGS), ("registers", (0, 1))])
def test_one_pass_for_all_methods_gives_what_a_pass_for_each_gives(name, layers):
    model = build(**CONFIGS[name])
    together = explain(model, images(), question(choices=TWO, layers=layers))
    for method in EVERY_METHOD:
        alone = explain(model, images(), question(method, choices=TWO, layers=layers))
        torch.testing.assert_close(alone.maps[method], together.maps[method])
        torch.testing.assert_close(alone.prefix_shares[method], together.prefix_shares[method])


@pytest.mark.parametrize("name", ["class token", "mean of patches", "registers"])
def test_without_positions_a_permutation_of_the_patches_permutes_the_map(name):
    model = build(**CONFIGS[name])
    torch.nn.init.zeros_(model.positions)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    patches = images().view(3, 3, 2, 4, 3, 4).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, P, C, ph, pw)
    moved = patches[:, order].view(3, 2, 3, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(3, 3, 8, 12)
    plain, found = (explain(model, each, question()).maps for each in (images(), moved))
    for method in EVERY_METHOD:
        torch.testing.assert_close(found[method].flatten(2), plain[method].flatten(2)[..., order])


def test_maps_of_two_classes_differ(model):
    choices = (ClassChoice(index=0), ClassChoice(index=3))
    for method, weights in explain(model, images(), question(*OF_CLASSES, choices=choices)).maps.items():
        assert not torch.allclose(weights[:, 0], weights[:, 1]), method


@pytest.mark.parametrize(("layer", "score"), [(0, "logit"), (1, "contrast"), (2, "logit")])
def test_relevance_of_a_layer_is_that_of_finite_differences(model, layer, score):
    """dy / dA is measured by moving one probability at a time, each in a copy of the image."""
    images_, step = images(batch=1), 1e-5
    tokens, heads = model.pooling_row().numel(), model.config.num_heads
    changes = step * torch.eye(heads * tokens**2, dtype=torch.float64).view(-1, heads, tokens, tokens)
    model.num_read = None
    probabilities = {}

    def scores_with(changes):
        """(M, H, N, N) -> (M,)"""

        def attend(queries, keys, values, _dropout):
            attention = (queries @ keys.mT * queries.shape[-1] ** -0.5).softmax(dim=-1)
            probabilities["seen"] = attention[0]
            return (attention + changes) @ values

        model.blocks[layer].attention.attend = attend
        logits = model(images_.repeat(len(changes), 1, 1, 1))
        model.blocks[layer].attention.attend = fused_attention
        return class_scores(logits, torch.full((len(logits),), 2), score)

    with torch.no_grad():
        slopes = (scores_with(changes) - scores_with(-changes)).view(heads, tokens, tokens) / (2 * step)
        effect = (slopes * probabilities["seen"]).relu().mean(dim=0)
        expected = (model.pooling_row().double() @ effect)[None]
    explainer = Explainer(model, images_, question("relevance", choices=(ClassChoice(index=2),), score=score))
    torch.testing.assert_close(explainer.row("relevance", layers=[layer]), expected, atol=1e-7, rtol=1e-5)


def test_layer_gradients_are_those_of_the_head_on_each_layers_tokens(model):
    """LeGrad of a single layer, from a model that is cut off above it."""
    for layer in range(3):
        cut = VisionTransformer(model.config).double().eval()
        cut.load_state_dict(model.state_dict())
        cut.blocks = cut.blocks[: layer + 1]
        cut.config = ModelConfig(**{**_fields(model.config), "depth": layer + 1})
        asked = question("legrad", choices=(ClassChoice(index=2),), layers=(layer,))
        whole = explain(model, images(), asked).maps["legrad"]
        torch.testing.assert_close(explain(cut, images(), asked).maps["legrad"], whole)


def _fields(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_integrated_gradients_add_up_to_the_change_of_the_score_the_better_the_more_steps(model):
    target = ClassChoice(index=1)
    with torch.no_grad():
        change = (model(images()) - model(torch.zeros_like(images())))[:, 1]
    errors = []
    for steps in (2, 8, 32):
        weights = explain(model, images(), question("ig", choices=(target,), steps=steps)).maps["ig"]
        errors.append((weights.sum(dim=(1, 2, 3)) - change).abs().max().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2 * change.abs().max()


def test_a_query_shows_what_a_patch_looks_at():
    model = build()
    explainer = Explainer(model, images(), question("raw", query=4))
    expected = explainer.probabilities[2].mean(dim=1)[:, model.config.num_prefix_tokens + 4]
    torch.testing.assert_close(explainer.row("raw"), expected)


def test_only_what_is_asked_for_is_watched():
    model = build()
    assert set(Explainer(model, images(), question("raw")).probabilities) == {2}
    assert set(Explainer(model, images(), question("rollout", layers=(1,))).probabilities) == {1}
    assert set(Explainer(model, images(), question("gradcam", "ig", "relevance")).probabilities) == set()
    assert set(Explainer(model, images(), question("rollout", "ig"))._entering) == set()
    assert set(Explainer(model, images(), question("gradcam"))._entering) == {2, 3}
    assert set(Explainer(model, images(), question("relevance", layers=(1,)))._entering) == {1, 2, 3}


def test_chosen_heads_are_the_only_ones():
    model = build()
    explainer = Explainer(model, images(), question("rollout", "raw", heads=(1,)))
    torch.testing.assert_close(explainer.row("raw"), explainer.probabilities[2][:, 1][:, 0])


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_left_as_it_was(method):
    model = build()
    model.patch_embedding.requires_grad_(requires_grad=False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    explain(model, images(), question(method))
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(block.attention.attend is fused_attention for block in model.blocks)
    assert not model.blocks[2].attention._forward_pre_hooks
    assert not model.blocks[2]._forward_hooks


def test_maps_are_computed_in_float32_whatever_surrounds_them():
    model, pixels = build().float(), images().float()
    plain = explain(model, pixels, question()).maps
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = explain(model, pixels, question()).maps
    for method, weights in plain.items():
        assert weights.dtype == torch.float32
        assert torch.equal(weights, inside[method])


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"layers": (3,)}, ModelError, "layer 3"),
        ({"layers": (-4,)}, ModelError, "layer -4"),
        ({"heads": (2,)}, ModelError, "head 2"),
        ({"query": 6, "methods": ("raw",)}, ModelError, "patch 6"),
        ({"query": 1}, UsageError, "relevance"),
        ({"steps": 0}, UsageError, "steps"),
        ({"options": Options(discard=1.0)}, UsageError, "discard"),
        ({"options": Options(mass=0.0)}, UsageError, "mass"),
        ({"methods": ("relevanc",)}, UsageError, "relevanc"),
    ],
)
def test_a_question_that_does_not_suit_the_model_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        explain(build(), images(), Question(**{"methods": ("relevance",), **changes}))


def test_classes_are_asked_only_of_models_that_know_some():
    headless = build(num_classes=0)
    assert explain(headless, images(), question("rollout", "raw")).maps["rollout"].any()
    with pytest.raises(ModelError, match="no classifier") as refusal:
        explain(headless, images(), question("relevance"))
    assert "rollout" in refusal.value.hint


def test_gradients_of_one_class_at_a_time_are_kept():
    explainer = Explainer(build(), images(), question("relevance", "legrad", choices=TWO))
    explainer.explanation()
    assert list(explainer._gradients) == list(explainer._layer_gradients) == [1]


@pytest.mark.parametrize("method", ["relevance", "grad-rollout", "legrad", "gradcam", "hirescam"])
def test_the_backward_pass_keeps_one_block_at_a_time(method):
    """As many bytes for gradients at once in a deep model as in a flat one."""
    peaks = []
    for depth in (3, 6):
        kept = [0, 0]  # now, at the peak

        class Kept:
            def __init__(self, tensor, kept=kept):
                self.tensor, self.kept = tensor, kept
                kept[0] += tensor.nbytes
                kept[1] = max(kept)

            def __del__(self):
                self.kept[0] -= self.tensor.nbytes

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda each: each.tensor):
            explainer = Explainer(build(depth=depth), images(), question(method))
            assert kept == [0, 0]
            explainer.map(method)
        peaks.append(kept[1])
    assert peaks[0] == peaks[1] > 0


def test_maps_can_be_asked_for_in_inference_mode():
    model = build()
    expected = explain(model, images(), question("relevance")).maps["relevance"]
    with torch.inference_mode():
        found = explain(model, images().clone(), question("relevance")).maps["relevance"]
    torch.testing.assert_close(found, expected)


def test_what_is_no_number_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        explain(build(), images() * torch.nan, question("rollout"))


def test_a_block_without_attention_is_refused():
    model = build()
    model.blocks[1] = torch.nn.Identity()
    with pytest.raises(ModelError, match="layer 1 has no attention"):
        explain(model, images(), question("rollout"))


def test_the_contrast_with_one_class_is_refused():
    with pytest.raises(ModelError, match="second class"):
        explain(build(num_classes=1), images(), question("relevance", score="contrast"))
