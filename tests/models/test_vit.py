import re
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from tests.conftest import naming
from vitcli.core.errors import UsageError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import format_size
from vitcli.models.layers import DropPath, LinearPatchEmbedding, PatchConv, sincos_positions
from vitcli.models.registry import MODELS, listed_config
from vitcli.models.vit import VisionTransformer

TINY = {
    "image_size": (8, 8),
    "patch_size": (4, 4),
    "num_classes": 5,
    "width": 16,
    "depth": 2,
    "num_heads": 4,
    "mlp_width": 32,
}
AXES = {
    "plain": {},
    "linear patches": {"patch_embedding": "linear"},
    "grey": {"in_channels": 1},
    "rectangular image": {"image_size": (8, 12)},
    "rectangular patches": {"image_size": (8, 12), "patch_size": (2, 6)},
    "rectangular linear patches": {"image_size": (8, 12), "patch_size": (2, 6), "patch_embedding": "linear"},
    "no class token": {"class_token": False, "pooling": "patches"},
    "registers": {"num_registers": 3},
    "registers without class token": {"num_registers": 3, "class_token": False, "pooling": "tokens"},
    "distillation token": {"distillation": "token"},
    "distillation head": {"distillation": "head"},
    "distillation head and registers": {"distillation": "head", "num_registers": 2},
    "patches alone have positions": {"prefix_positions": False, "num_registers": 2, "distillation": "token"},
    "input norm": {"input_norm": True, "patch_bias": False},
    "linear patches without bias": {"patch_embedding": "linear", "patch_bias": False},
    "no head": {"num_classes": 0},
    "quick gelu": {"activation": "gelu-quick"},
    "mean of tokens": {"pooling": "tokens"},
    "mean of patches": {"pooling": "patches"},
    "post-norm": {"block_norm": "post"},
    "norm after pooling": {"pooling": "patches", "final_norm": "pooled"},
    "norm after pooling the class token": {"final_norm": "pooled"},
    "no final norm": {"final_norm": "none"},
    "tanh gelu": {"activation": "gelu-tanh"},
    "relu": {"activation": "relu"},
    "no qkv bias": {"qkv_bias": False},
    "sincos": {"positions": "sincos"},
    "sincos without class token": {"positions": "sincos", "class_token": False, "pooling": "patches"},
    "layer scale": {"layer_scale": 1e-2},
    "convolution in the MLP": {"mlp_conv": 3, "pooling": "patches", "class_token": False},
    "convolution in the MLP, mean of tokens": {"mlp_conv": 3, "pooling": "tokens", "num_registers": 2},
    "MLP head": {"head_width": 24, "head_dropout": 0.3},
    "dropouts": {"dropout": 0.1, "attention_dropout": 0.1, "drop_path": 0.1},
    "one block": {"depth": 1, "drop_path": 0.1},
}


def tiny(**changes):
    return ModelConfig(**{**TINY, **changes})


def build(config, seed=0):
    torch.manual_seed(seed)
    return VisionTransformer(config)


@cache
def built(axis):
    """The model of a configuration, which no test changes but for its mode."""
    with naming(axis):
        return build(tiny(**AXES[axis]))


def images_for(config, batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, config.in_channels, *config.image_size)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_registered_model_has_the_number_of_parameters_that_is_computed_without_building_it(name):
    """Every block beyond the second has as many as the second."""
    config = listed_config(name)
    with torch.device("meta"):
        one, two = (count(VisionTransformer(replace(config, depth=depth))) for depth in (1, 2))
    assert one + (config.depth - 1) * (two - one) == config.num_parameters


def test_fixed_positions_are_made_on_the_device_of_the_model_whatever_libraries_did_to_torch(monkeypatch):
    """After the ``from_pretrained`` of transformers, ``torch.device`` may have no effect on ``torch.linspace``."""
    linspace = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *args, **more: linspace(*args, **{"device": "cpu", **more}))
    with torch.device("meta"):
        model = VisionTransformer(replace(tiny(), positions="sincos"))
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


def test_every_configuration_has_the_number_of_parameters_that_is_computed_without_building_it():
    assert {axis: count(built(axis)) for axis in AXES} == {axis: tiny(**AXES[axis]).num_parameters for axis in AXES}


def test_the_classic_cifar10_model_has_119098_parameters():
    model = VisionTransformer(listed_config("vit-cifar10-classic"))
    assert count(model) == 119_098


@pytest.mark.parametrize("name", ["vit-nano-patch4", "vit-cifar10-classic", "vit-mnist-classic"])
def test_small_registered_models_answer_with_a_logit_per_class(name):
    config = listed_config(name)
    logits = build(config).eval()(images_for(config))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_every_configuration_answers_with_a_logit_per_class():
    for axis in AXES:
        model = built(axis).train()
        with naming(axis):
            logits = model(images_for(model.config))
            assert logits.shape == (2, model.config.num_classes or model.config.width)
            assert logits.dtype == torch.float32
            assert logits.isfinite().all()


def test_every_parameter_of_every_configuration_takes_part():
    for axis in AXES:
        model = built(axis).eval()
        names, parameters = zip(*model.named_parameters(), strict=True)
        with naming(axis):
            total = model(images_for(model.config)).square().sum()
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []


def test_tokens_are_class_token_distillation_token_registers_patches():
    for axis in AXES:
        model = built(axis).eval()
        config, images = model.config, images_for(model.config)
        named = [token[0, 0] for token in (model.class_token, model.distillation_token) if token is not None]
        expected = torch.cat([*(token[None] for token in named), model.patch_embedding(images)[0]])
        expected[-model.positions.shape[1] :] += model.positions[0]  # the last rows: all, or those of the patches
        if config.num_registers:
            expected = torch.cat([expected[: len(named)], model.registers[0], expected[len(named) :]])
        with naming(axis):
            assert len(expected) == config.num_prefix_tokens + config.grid[0] * config.grid[1]
            torch.testing.assert_close(model.embed(images)[0], model.input_norm(expected))


def test_images_of_a_batch_do_not_see_each_other():
    for axis in AXES:
        model = built(axis).eval()
        images = images_for(model.config, batch=3)
        with naming(axis):
            alone = torch.cat([model(image[None]) for image in images])
            torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=0)


def test_patches_of_a_rectangular_grid_are_counted_row_by_row():
    config = tiny(image_size=(8, 12), patch_size=(4, 4))
    model = build(config)
    image = torch.zeros(1, 3, 8, 12)
    image[:, :, 4:, :4] = 1  # the second row's first patch
    changed = (model.patch_embedding(image) != model.patch_embedding(torch.zeros_like(image))).any(dim=2)
    assert changed[0].tolist() == [False, False, False, True, False, False]


def test_convolutional_patches_are_those_of_a_convolution():
    model = build(tiny(image_size=(8, 12), patch_size=(2, 6)))
    images = torch.randn(2, 3, 8, 12)
    expected = model.patch_embedding.projection(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.patch_embedding(images), expected, atol=1e-6, rtol=1e-5)


def test_models_take_images_in_any_memory_layout():
    config = tiny()
    model = build(config).eval()
    images = images_for(config)
    torch.testing.assert_close(model(images.contiguous(memory_format=torch.channels_last)), model(images))


def test_linear_patches_are_flattened_row_column_channel():
    embedding = LinearPatchEmbedding(patch_size=(2, 3), in_channels=2, width=12, bias=True)
    with torch.no_grad():
        embedding.projection.weight.copy_(torch.eye(12))
        embedding.projection.bias.zero_()
    images = torch.arange(2 * 4 * 6).view(1, 2, 4, 6).float()
    expected = [
        images[0, channel, row, column].item() for row in (2, 3) for column in (3, 4, 5) for channel in range(2)
    ]
    assert embedding(images)[0, 3].tolist() == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [1, 0, 0, 0, 0]),
        ({"num_registers": 2}, [1, 0, 0, 0, 0, 0, 0]),
        ({"pooling": "tokens"}, [0.2] * 5),
        ({"pooling": "tokens", "num_registers": 1}, [1 / 6] * 6),
        ({"pooling": "patches"}, [0, 0.25, 0.25, 0.25, 0.25]),
        ({"pooling": "patches", "num_registers": 2}, [0, 0, 0, 0.25, 0.25, 0.25, 0.25]),
        ({"pooling": "patches", "class_token": False}, [0.25] * 4),
        ({"pooling": "tokens", "class_token": False}, [0.25] * 4),
    ],
)
def test_the_pooling_row_is_the_weight_of_each_token(changes, expected):
    row = build(tiny(**changes)).pooling_row()
    torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float32))


def test_the_pooling_row_sums_to_1():
    sums = {axis: built(axis).pooling_row().sum().item() for axis in AXES}
    assert sums == pytest.approx(dict.fromkeys(AXES, 1))


@pytest.mark.parametrize("num_registers", [0, 2])
@pytest.mark.parametrize("pooling", ["class", "tokens", "patches"])
def test_without_a_norm_pooling_is_the_pooling_row_times_the_tokens(pooling, num_registers):
    model = build(tiny(pooling=pooling, num_registers=num_registers, final_norm="none"))
    tokens = torch.randn(3, len(model.pooling_row()), 16)
    torch.testing.assert_close(model.pool(tokens), model.pooling_row() @ tokens)


@pytest.mark.parametrize("pooling", ["class", "tokens", "patches"])
def test_the_final_norm_of_tokens_comes_before_pooling(pooling):
    model = build(tiny(pooling=pooling, final_norm="tokens"))
    tokens = torch.randn(3, 5, 16) * torch.arange(1, 6)[:, None]
    normed = nn.functional.layer_norm(tokens, [16], eps=1e-6)
    torch.testing.assert_close(model.pool(tokens), model.pooling_row() @ normed)


@pytest.mark.parametrize("pooling", ["class", "tokens", "patches"])
def test_the_pooled_final_norm_comes_after_pooling(pooling):
    model = build(tiny(pooling=pooling, final_norm="pooled"))
    tokens = torch.randn(3, 5, 16) * torch.arange(1, 6)[:, None]
    normed = nn.functional.layer_norm(model.pooling_row() @ tokens, [16], eps=1e-6)
    torch.testing.assert_close(model.pool(tokens), normed, atol=1e-5, rtol=1e-5)


def test_an_mlp_head_is_linear_relu_dropout_linear():
    head = build(tiny(head_width=24, head_dropout=0.3)).head
    assert [type(part) for part in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert head[2].p == 0.3
    assert (head[0].out_features, head[3].out_features) == (24, 5)


def test_layer_scale_starts_at_its_configured_value_and_scales_both_branches():
    scaled = build(tiny(layer_scale=0.5)).eval()
    plain = build(tiny()).eval()
    for block, other in zip(scaled.blocks, plain.blocks, strict=True):
        assert (block.attention_scale.factor == 0.5).all()
        assert (block.mlp_scale.factor == 0.5).all()
        with torch.no_grad():
            other.attention.projection.weight.mul_(0.5)
            other.attention.projection.bias.mul_(0.5)
            other.mlp.fc2.weight.mul_(0.5)
            other.mlp.fc2.bias.mul_(0.5)
    images = images_for(scaled.config)
    torch.testing.assert_close(scaled(images), plain(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "changes", [{"pooling": "tokens", "num_registers": 2}, {"class_token": False, "pooling": "patches"}]
)
def test_a_convolution_in_the_mlp_changes_nothing_at_first(changes):
    plain, mixing = build(tiny(**changes)), build(tiny(**changes, mlp_conv=3), seed=1)
    assert mixing.load_state_dict(plain.state_dict(), strict=False).unexpected_keys == []
    torch.testing.assert_close(mixing(images_for(plain.config)), plain(images_for(plain.config)))


def test_the_convolution_in_the_mlp_mixes_each_feature_of_neighbouring_patches_and_no_other_token():
    conv = PatchConv(features=5, kernel_size=3).double()
    nn.init.normal_(conv.weight)
    nn.init.normal_(conv.bias)
    tokens = torch.randn(2, 3 + 4 * 6, 5, dtype=torch.float64)
    rows = torch.zeros(2, 6, 8, 5, dtype=torch.float64)  # zeros around 4 x 6 patches
    rows[:, 1:5, 1:7] = tokens[:, 3:].view(2, 4, 6, 5)
    expected = sum(
        rows[:, row : row + 4, column : column + 6] * conv.weight[:, 0, row, column]
        for row in range(3)
        for column in range(3)
    )
    mixed = conv(tokens, (4, 6))
    torch.testing.assert_close(mixed[:, 3:], (expected + conv.bias).flatten(1, 2))
    assert torch.equal(mixed[:, :3], tokens[:, :3])


def test_images_of_training_may_be_smaller_where_an_mlp_mixes_patches():
    model = build(tiny(image_size=(16, 24), pooling="patches", mlp_conv=3)).train()
    assert model(torch.randn(2, 3, 8, 12)).shape == (2, 5)


def test_drop_path_drops_whole_images_and_keeps_the_expectation():
    branch = torch.ones(20_000, 2, 3)
    torch.manual_seed(0)
    dropped = DropPath(0.3)(branch)
    per_image = dropped[:, 0, 0]
    assert (dropped == per_image[:, None, None]).all()
    values = per_image.unique()
    torch.testing.assert_close(values, torch.tensor([0, 1 / 0.7]))
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


def test_drop_path_is_off_in_evaluation():
    branch = torch.randn(4, 2, 3)
    assert torch.equal(DropPath(0.9).eval()(branch), branch)


def test_drop_path_grows_linearly_from_block_to_block():
    model = build(tiny(depth=5, drop_path=0.2))
    assert [block.drop_path.probability for block in model.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_everything_random_is_off_in_evaluation():
    config = tiny(dropout=0.5, attention_dropout=0.5, drop_path=0.5, head_dropout=0.5)
    model = build(config)
    images = images_for(config)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_attention_dropout_is_on_in_training():
    config = tiny(attention_dropout=0.5)
    model = build(config).train()
    images = images_for(config)
    assert not torch.equal(model(images), model(images))


def test_weights_start_from_a_normal_distribution_and_biases_from_zero():
    config = tiny(width=64, mlp_width=128, num_registers=8, init_std=0.05, patch_init_std=0.2)
    model = build(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            std = 0.2 if name.startswith("patch_embedding") else 0.05
            assert parameter.std().item() == pytest.approx(std, rel=0.25), name


def test_sincos_positions_are_fixed_and_zero_for_the_class_token():
    model = build(tiny(positions="sincos"))
    assert "positions" not in model.state_dict()
    assert not any(parameter is model.positions for parameter in model.parameters())
    assert not model.positions[0, 0].any()
    assert torch.equal(model.positions[:, 1:], sincos_positions((2, 2), 16))


def test_sincos_positions_tell_every_patch_from_every_other():
    positions = sincos_positions((3, 5), 8)[0]
    assert len(positions.unique(dim=0)) == 15


@pytest.mark.parametrize(
    ("image_size", "patch_size", "named", "nearest"),
    [
        ((31, 31), (4, 4), "image size 31 is not divisible by patch size 4", "--image-size 32"),
        ((33, 33), (4, 4), "image size 33 is not divisible by patch size 4", "--image-size 32"),
        ((32, 41), (4, 4), "image size 32x41 is not divisible by patch size 4", "--image-size 32x40"),
        ((32, 41), (8, 4), "image size 32x41 is not divisible by patch size 8x4", "--image-size 32x40"),
        ((3, 3), (16, 16), "image size 3 is not divisible by patch size 16", "--image-size 16"),
    ],
)
def test_an_image_that_patches_do_not_fill_is_refused_with_the_nearest_size(image_size, patch_size, named, nearest):
    with pytest.raises(UsageError) as refusal:
        tiny(image_size=image_size, patch_size=patch_size)
    assert named in refusal.value.message
    assert refusal.value.hint.endswith(nearest)


@given(
    image_size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    patch_size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_the_suggested_image_size_always_works_and_is_the_nearest(image_size, patch_size):
    assume(image_size[0] % patch_size[0] or image_size[1] % patch_size[1])
    with pytest.raises(UsageError) as refusal:
        tiny(image_size=image_size, patch_size=patch_size)
    numbers = [int(number) for number in re.findall(r"\d+", refusal.value.hint)]
    suggested = (numbers[0], numbers[-1])
    assert refusal.value.hint.endswith(format_size(suggested))
    assert tiny(image_size=suggested, patch_size=patch_size).image_size == suggested
    for ours, asked, patch in zip(suggested, image_size, patch_size, strict=True):
        assert abs(ours - asked) <= patch / 2 or ours == patch


def test_a_width_that_heads_do_not_divide_is_refused_with_the_nearest_width():
    with pytest.raises(UsageError) as refusal:
        tiny(width=18, num_heads=4)
    assert refusal.value.message == "width 18 is not divisible by 4 heads"
    assert refusal.value.hint.endswith("--set model.width=20")


def test_a_distillation_token_is_refused_without_pooling_the_class_token():
    with pytest.raises(UsageError, match="a distillation token stands beside a class token") as refusal:
        tiny(distillation="head", pooling="patches")
    assert "model.pooling=class" in refusal.value.hint


def test_pooling_the_class_token_is_refused_where_there_is_none():
    with pytest.raises(UsageError, match="pooling 'class' needs a class token") as refusal:
        tiny(class_token=False)
    assert "model.pooling=patches" in refusal.value.hint


def test_sincos_positions_are_refused_for_a_width_that_4_does_not_divide():
    with pytest.raises(UsageError, match="divisible by 4, not 18") as refusal:
        tiny(positions="sincos", width=18, num_heads=2)
    assert refusal.value.hint == "--set model.width=20"


@pytest.mark.parametrize(
    "changes", [{"depth": 0}, {"num_classes": -1}, {"dropout": 1.0}, {"drop_path": -0.1}, {"patch_size": (0, 4)}]
)
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        tiny(**changes)


def test_names_tell_how_far_up_a_parameter_stands():
    model = build(tiny(num_registers=1))
    layers = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    assert {name for name, layer in layers.items() if layer == 0} == {
        "class_token",
        "registers",
        "positions",
        "patch_embedding.projection.weight",
        "patch_embedding.projection.bias",
    }
    assert all(layer == int(name.split(".")[1]) + 1 for name, layer in layers.items() if name.startswith("blocks."))
    assert {name for name, layer in layers.items() if layer == 3} == {
        "norm.weight",
        "norm.bias",
        "head.1.weight",
        "head.1.bias",
    }


def test_tokens_that_the_head_does_not_read_change_neither_logits_nor_gradients():
    """The last block leaves them out; in float64 no order of sums makes a difference that counts."""

    def outcome(model, num_read):
        model.num_read = num_read
        logits = model(images_for(model.config).double())
        return [logits.detach(), *torch.autograd.grad(logits.square().sum(), [*model.parameters()])]

    for axis in AXES:
        model = deepcopy(built(axis)).eval().double()
        num_heads = 1 + (model.config.distillation == "head")
        with naming(axis):
            assert model.num_read == (num_heads if model.config.pooling == "class" else None)
            for short, whole in zip(outcome(model, model.num_read), outcome(model, None), strict=True):
                torch.testing.assert_close(short, whole, rtol=1e-9, atol=1e-12)
