"""Weights of one model in another; resizing is held to timm's."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import resample_abs_pos_embed
from timm.models._manipulate import adapt_input_conv

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.models.adapt import adapt_weights, change_channels, resize_positions
from vitcli.models.vit import VisionTransformer

SOURCE = ModelConfig(
    name="source", image_size=(32, 32), patch_size=(8, 8), num_classes=3, width=16, depth=2, num_heads=2, mlp_width=32
)
CLASSES = ("ash", "birch", "cedar")


def build(config):
    torch.manual_seed(0)
    model = VisionTransformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def adapted(target, source=SOURCE, classes=CLASSES, weights=None):
    fresh = build(target).state_dict()
    return adapt_weights(weights or build(source).state_dict(), source, target, fresh=fresh, classes=(CLASSES, classes))


grids = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(old=grids, new=grids, prefix=st.integers(0, 2))
def test_positions_are_resized_as_timm_does_it(old, new, prefix):
    positions = torch.randn(1, prefix + old[0] * old[1], 8)
    wanted = resample_abs_pos_embed(positions, new, old, num_prefix_tokens=prefix)
    result = resize_positions(positions, old, new)
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-5)
    assert torch.equal(result[:, :prefix], positions[:, :prefix])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_patch_kernels_get_channels_as_in_timm(channels):
    kernels = torch.randn(8, 3, 4, 4)
    torch.testing.assert_close(change_channels(kernels, channels), adapt_input_conv(channels, kernels))


def test_the_same_model_takes_everything_as_it_is():
    result = adapted(SOURCE)
    weights = build(SOURCE).state_dict()
    assert result.new == result.left_over == result.changed == ()
    assert all(torch.equal(result.weights[key], value) for key, value in weights.items())


def test_other_classes_get_a_new_head():
    result = adapted(replace(SOURCE, num_classes=2), classes=("oak", "pine"))
    assert result.new == ("head.1.weight", "head.1.bias")
    assert set(result.left_over) == {"head.1.weight", "head.1.bias"}


def test_as_many_classes_of_other_names_get_a_new_head_too():
    assert adapted(SOURCE, classes=("oak", "pine", "yew")).new == ("head.1.weight", "head.1.bias")


@given(st.permutations(CLASSES))
def test_the_head_follows_the_order_of_classes(order):
    result = adapted(SOURCE, classes=tuple(order))
    before = build(SOURCE)
    after = build(SOURCE)
    after.load_state_dict(result.weights)
    images = torch.randn(2, 3, 32, 32)
    wanted = before(images)[:, [CLASSES.index(name) for name in order]]
    torch.testing.assert_close(after(images), wanted)


def test_another_size_and_grey_images_change_what_they_must():
    target = replace(SOURCE, image_size=(16, 48), in_channels=1)
    result = adapted(target)
    assert dict(result.changed) == {
        "positions": "4 to 2x6 patches",
        "patch_embedding.projection.weight": "3 to 1 channel",
    }
    model = build(target)
    model.load_state_dict(result.weights)
    assert model(torch.randn(1, 1, 16, 48)).shape == (1, 3)


def test_a_grey_image_means_the_same_with_one_channel_as_with_three():
    target = replace(SOURCE, in_channels=1)
    model = build(target)
    model.load_state_dict(adapted(target).weights)
    grey = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(model(grey), build(SOURCE)(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_an_mlp_head_follows_the_order_of_classes_in_its_last_layer():
    source = replace(SOURCE, head_width=8)
    result = adapted(source, source=source, classes=CLASSES[::-1])
    assert [key for key, _ in result.changed] == ["head.3.weight", "head.3.bias"]


def test_what_a_model_has_more_is_new():
    assert adapted(replace(SOURCE, num_registers=2)).new == ("registers",)


def test_another_width_is_refused_with_the_shapes():
    with pytest.raises(ModelError, match=r"do not fit source: .*\(1, 1, 16\), not \(1, 1, 32\)"):
        adapted(replace(SOURCE, width=32))


def test_weights_that_match_nothing_are_refused():
    with pytest.raises(ModelError, match="no name matches"):
        adapted(SOURCE, weights={"conv1.weight": torch.zeros(3)})
