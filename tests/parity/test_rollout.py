"""Attention methods against an independent NumPy implementation with full matrix products."""

import numpy as np
import pytest
import torch

from vitcli.attention.classic import classic_attention
from vitcli.attention.fusion import fuse_heads, patch_map, sink_share
from vitcli.attention.raw import raw_attention
from vitcli.attention.registry import METHODS
from vitcli.attention.rollout import attention_rollout
from vitcli.core.registry import load_object

FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}
METHOD_FUNCTIONS = {"raw": raw_attention, "classic": classic_attention, "rollout": attention_rollout}


def attention(*, layers=4, batch=3, heads=2, tokens=7, seed=0, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    scores = sharpness * torch.randn(layers, batch, heads, tokens, tokens, generator=generator, dtype=torch.float64)
    return list(scores.softmax(dim=-1))


def class_row(tokens=7):
    return torch.eye(tokens, dtype=torch.float64)[0]


def mean_row(tokens=7, prefix=1):
    row = torch.zeros(tokens, dtype=torch.float64)
    row[prefix:] = 1 / (tokens - prefix)
    return row


ROWS = {"class token": class_row(), "mean of patches": mean_row(), "mean of tokens": mean_row(prefix=0)}


def rollout_by_products(probabilities, row, fusion):
    """p R_L ... R_1, one image at a time, by products of whole matrices."""
    images = []
    for image in range(probabilities[0].shape[0]):
        product = np.eye(len(row))
        for layer in probabilities:
            fused = FUSIONS[fusion](layer[image].numpy(), axis=0) + np.eye(len(row))
            product = fused / fused.sum(axis=1, keepdims=True) @ product
        images.append(row.numpy() @ product)
    return np.stack(images)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("row", ROWS)
def test_rollout_is_a_product_of_whole_matrices(row, fusion):
    probabilities = attention()
    ours = attention_rollout(probabilities, ROWS[row], fusion)
    np.testing.assert_allclose(ours, rollout_by_products(probabilities, ROWS[row], fusion), rtol=1e-10)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("row", ROWS)
def test_raw_is_the_pooling_row_times_the_last_layer(row, fusion):
    probabilities = attention()
    expected = [ROWS[row].numpy() @ FUSIONS[fusion](image.numpy(), axis=0) for image in probabilities[-1]]
    np.testing.assert_allclose(raw_attention(probabilities, ROWS[row], fusion), np.stack(expected), rtol=1e-10)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("row", ROWS)
def test_classic_is_the_pooling_row_averaged_over_layers(row, fusion):
    probabilities = attention()
    fused = np.stack([FUSIONS[fusion](layer.numpy(), axis=1) for layer in probabilities])  # (L, B, N, N)
    expected = np.einsum("n,lbnm->bm", ROWS[row].numpy(), fused) / len(probabilities)
    np.testing.assert_allclose(classic_attention(probabilities, ROWS[row], fusion), expected, rtol=1e-10)


@pytest.mark.parametrize("layers", [1, 3, 12])
@pytest.mark.parametrize("row", ROWS)
def test_rollout_of_uniform_attention_has_a_closed_form(row, layers):
    uniform = [torch.full((2, 3, 7, 7), 1 / 7, dtype=torch.float64)] * layers
    expected = 2**-layers * ROWS[row] + (1 - 2**-layers) / 7
    torch.testing.assert_close(attention_rollout(uniform, ROWS[row], "mean"), expected.expand(2, -1))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("method", METHOD_FUNCTIONS)
def test_attention_to_oneself_gives_patches_nothing_and_no_nan(method, fusion):
    identity = [torch.eye(7, dtype=torch.float64).expand(2, 3, 7, 7)] * 4
    row = METHOD_FUNCTIONS[method](identity, class_row(), fusion)
    assert torch.equal(row, class_row().expand(2, -1))
    assert not patch_map(row, grid=(2, 3), num_prefix_tokens=1).any()
    assert sink_share(row, 1).tolist() == [1, 1]


@pytest.mark.parametrize("method", METHOD_FUNCTIONS)
@pytest.mark.parametrize("row", ROWS)
def test_rows_sum_to_1(row, method):
    weights = METHOD_FUNCTIONS[method](attention(), ROWS[row], "mean")
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert (weights >= 0).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_rollout_rows_sum_to_1_however_heads_are_fused(fusion):
    weights = attention_rollout(attention(), class_row(), fusion)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("method", METHOD_FUNCTIONS)
def test_a_batch_of_three_equals_three_singles(method, fusion):
    function, probabilities = METHOD_FUNCTIONS[method], attention(batch=3)
    together = function(probabilities, class_row(), fusion)
    singles = [function([layer[[image]] for layer in probabilities], class_row(), fusion) for image in range(3)]
    torch.testing.assert_close(together, torch.cat(singles))
    assert not torch.allclose(together[0], together[1])


def test_rollout_depends_on_the_order_of_the_layers():
    probabilities = attention()
    forwards = attention_rollout(probabilities, class_row(), "mean")
    backwards = attention_rollout(probabilities[::-1], class_row(), "mean")
    assert (forwards - backwards).abs().max() > 1e-3


def test_raw_uses_the_last_layer_alone():
    probabilities = attention()
    torch.testing.assert_close(
        raw_attention(probabilities, class_row(), "mean"), raw_attention(probabilities[-1:], class_row(), "mean")
    )


def test_classic_does_not_depend_on_the_order_of_the_layers():
    probabilities = attention()
    torch.testing.assert_close(
        classic_attention(probabilities, class_row(), "mean"),
        classic_attention(probabilities[::-1], class_row(), "mean"),
    )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_heads_are_fused_entry_by_entry(fusion):
    layer = attention(heads=5)[0]
    np.testing.assert_allclose(fuse_heads(layer, fusion), FUSIONS[fusion](layer.numpy(), axis=1))


@pytest.mark.parametrize("method", METHOD_FUNCTIONS)
def test_head_fusions_differ_where_heads_do(method):
    weights = [METHOD_FUNCTIONS[method](attention(), class_row(), fusion) for fusion in FUSIONS]
    assert not torch.allclose(weights[0], weights[1])
    assert not torch.allclose(weights[1], weights[2])


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_patches_become_a_grid_of_rows_and_columns_without_the_prefix(prefix):
    row = torch.arange(2 * (prefix + 6)).view(2, -1)
    grid = patch_map(row, grid=(2, 3), num_prefix_tokens=prefix)
    assert grid.shape == (2, 2, 3)
    for image in range(2):
        expected = [[row[image, prefix + 3 * h + w].item() for w in range(3)] for h in range(2)]
        assert grid[image].tolist() == expected


def test_the_sink_share_is_the_mass_on_prefix_tokens():
    row = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert sink_share(row, 2).tolist() == [0.75, 0, 0]
    assert sink_share(row, 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_every_registered_method_gives_every_image_a_weight_per_token(method):
    entry = METHODS[method]
    weights = load_object(entry.function)(attention(), class_row(), "mean")
    assert weights.shape == (3, 7)
    assert weights.isfinite().all()
    assert entry.layers in {"all", "last"}
    assert entry.summary
