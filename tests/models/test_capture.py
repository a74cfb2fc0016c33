from functools import cache

import pytest
import torch

from tests.conftest import naming
from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.models.capture import capture_attention
from vitcli.models.layers import fused_attention
from vitcli.models.vit import VisionTransformer

TINY = {
    "image_size": (8, 12),
    "patch_size": (4, 4),
    "num_classes": 5,
    "width": 16,
    "depth": 3,
    "num_heads": 4,
    "mlp_width": 32,
}
CONFIGS = {
    "plain": {},
    "post-norm": {"block_norm": "post"},
    "registers": {"num_registers": 3},
    "no class token": {"class_token": False, "pooling": "patches"},
    "no qkv bias": {"qkv_bias": False},
    "layer scale": {"layer_scale": 0.1},
    "one head": {"num_heads": 1},
    "dropout": {"dropout": 0.5, "attention_dropout": 0.5},
    "linear patches and sincos": {"patch_embedding": "linear", "positions": "sincos"},
}


def build(**changes):
    torch.manual_seed(0)
    model = VisionTransformer(ModelConfig(**{**TINY, "init_std": 0.2, **changes}))
    return model.eval()


@cache
def built(name):
    """The model of a configuration, which no test changes but for gradients."""
    return build(**CONFIGS[name])


def images(batch=2):
    return torch.randn(batch, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def attends(model):
    return [block.attention.attend for block in model.blocks]


def test_logits_are_the_same_inside_and_outside():
    for name in CONFIGS:
        with naming(name):
            outside = built(name)(images())
            with capture_attention(built(name)):
                inside = built(name)(images())
            torch.testing.assert_close(inside, outside, atol=1e-5, rtol=0)


def test_rows_of_every_layer_and_head_sum_to_1():
    for name in CONFIGS:
        with naming(name):
            model = built(name)
            with capture_attention(model) as captured:
                model(images())
            tokens = model.pooling_row().numel()
            assert list(captured) == [0, 1, 2]
            for probabilities in captured.values():
                assert probabilities.shape == (2, model.config.num_heads, tokens, tokens)
                assert (probabilities >= 0).all()
                torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones_like(probabilities[..., 0]))


def test_probabilities_are_the_softmax_of_scaled_products_of_queries_and_keys():
    model = build()
    projected = []
    handle = model.blocks[1].attention.qkv.register_forward_hook(lambda module, given, output: projected.append(output))
    with capture_attention(model, [1]) as captured:
        model(images())
    handle.remove()
    queries, keys = projected[0][0, :, :16], projected[0][0, :, 16:32]  # of the first image, 4 heads of 4 features
    for head in range(4):
        here = slice(4 * head, 4 * head + 4)
        expected = (queries[:, here] @ keys[:, here].T / 2).softmax(dim=1)
        torch.testing.assert_close(captured[1][0, head], expected)


def test_only_the_requested_layers_are_kept():
    model = build()
    with capture_attention(model, [2, 0]) as captured:
        model(images())
        assert model.blocks[1].attention.attend is fused_attention
    assert sorted(captured) == [0, 2]


def test_a_layer_keeps_the_same_probabilities_whichever_others_are_watched():
    model = build()
    with capture_attention(model) as everything:
        model(images())
    with capture_attention(model, [1]) as one:
        model(images())
    torch.testing.assert_close(one[1], everything[1])


def test_negative_layers_count_from_the_end():
    model = build()
    with capture_attention(model, [-1, -3]) as captured:
        model(images())
    assert sorted(captured) == [0, 2]


def test_a_layer_that_is_named_twice_is_restored_all_the_same():
    model = build()
    with capture_attention(model, [2, -1]) as captured:
        model(images())
    assert list(captured) == [2]
    assert attends(model) == [fused_attention] * 3


def test_a_layer_that_does_not_exist_is_refused():
    model = build()
    for layer in (3, -4, 100):
        said = f"layer {layer} does not exist"
        with naming(layer), pytest.raises(ModelError, match=said) as refusal, capture_attention(model, [layer]):
            pass
        assert refusal.value.hint == "this model has 3 layers, counted from 0", layer
        assert attends(model) == [fused_attention] * 3, layer


def test_attention_is_as_it_was_after_the_block():
    model = build()
    with capture_attention(model):
        assert fused_attention not in attends(model)
    assert attends(model) == [fused_attention] * 3


def test_attention_is_as_it_was_after_an_exception():
    model = build()
    message = "in the middle"
    with pytest.raises(RuntimeError, match=message), capture_attention(model):
        raise RuntimeError(message)
    assert attends(model) == [fused_attention] * 3


def test_a_capture_inside_a_capture_hands_back_to_the_outer_one():
    model = build()
    with capture_attention(model) as outer:
        with capture_attention(model, [0]) as inner:
            model(images())
        assert list(inner) == [0]
        assert list(outer) == [1, 2]
        model(images())
    assert sorted(outer) == [0, 1, 2]
    assert attends(model) == [fused_attention] * 3


def test_what_was_captured_outlives_the_block_and_later_passes():
    model = build()
    with capture_attention(model) as captured:
        model(images())
    before = captured[0].clone()
    model(images() + 1)
    assert torch.equal(captured[0], before)


def test_every_pass_fills_the_dictionary_anew():
    model = build()
    with capture_attention(model) as captured:
        model(images(batch=2))
        model(images(batch=5))
    assert captured[0].shape[0] == 5


def test_the_graph_is_kept_for_gradients_of_the_probabilities():
    for name in CONFIGS:
        with naming(name):
            with capture_attention(built(name)) as captured:
                logits = built(name)(images())
            for probabilities in captured.values():
                probabilities.retain_grad()
            logits[:, 0].sum().backward()
            for probabilities in captured.values():
                assert probabilities.grad is not None
                assert probabilities.grad.isfinite().all()
                assert probabilities.grad.any()


def test_with_a_class_token_only_its_row_of_the_last_layer_gets_a_gradient():
    model = build()
    with capture_attention(model) as captured:
        logits = model(images())
    captured[2].retain_grad()
    logits[:, 0].sum().backward()
    assert captured[2].grad[:, :, 0].any()
    assert not captured[2].grad[:, :, 1:].any()


def test_gradients_of_the_weights_are_the_same_inside_and_outside():
    model = build()
    model(images()).square().sum().backward()
    outside = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with capture_attention(model):
        model(images()).square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, outside[name], atol=1e-4, rtol=1e-4)
