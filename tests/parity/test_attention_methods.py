"""Attention methods against independent NumPy implementations with full matrix products."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from tests.conftest import naming
from vitcli.attention.evidence import Evidence, Options
from vitcli.attention.fusion import fuse_heads, fused_relevance, patch_map, sink_share
from vitcli.attention.methods import strongest, without_weakest
from vitcli.attention.registry import EVERY_METHOD, METHODS, parse_methods
from vitcli.core.errors import UsageError
from vitcli.core.registry import load_object

FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}
OF_ATTENTION = [name for name, entry in METHODS.items() if entry.needs == "attention"]
OF_GRADIENTS = [name for name, entry in METHODS.items() if entry.needs == "gradients"]
GRID, PREFIX, TOKENS = (2, 3), 1, 7


def attention(*, layers=4, batch=3, heads=2, tokens=TOKENS, seed=0, sharpness=2.0):
    generator = torch.Generator().manual_seed(seed)
    scores = sharpness * torch.randn(layers, batch, heads, tokens, tokens, generator=generator, dtype=torch.float64)
    return list(scores.softmax(dim=-1))


def signed(*, layers=4, batch=3, heads=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(layers, batch, heads, TOKENS, TOKENS, generator=generator, dtype=torch.float64))


def class_row(tokens=TOKENS):
    return torch.eye(tokens, dtype=torch.float64)[0]


def mean_row(tokens=TOKENS, prefix=PREFIX):
    row = torch.zeros(tokens, dtype=torch.float64)
    row[prefix:] = 1 / (tokens - prefix)
    return row


ROWS = {"class token": class_row(), "mean of patches": mean_row(), "mean of tokens": mean_row(prefix=0)}


def evidence(row="class token", *, batch=3, probabilities=None, gradients=None, fusion="mean"):
    """All that any method reads, of random numbers."""
    generator = torch.Generator().manual_seed(2)
    probabilities = attention(batch=batch) if probabilities is None else probabilities
    pairs = zip(signed(batch=batch) if gradients is None else gradients, probabilities, strict=True)
    return Evidence(
        seeds=range(batch),
        grid=GRID,
        num_prefix_tokens=PREFIX,
        pooling_row=ROWS[row],
        probabilities=probabilities,
        relevances=[fused_relevance(gradient, layer, fusion) for gradient, layer in pairs],
        layer_gradients=[fuse_heads(slope.relu(), fusion) for slope in signed(batch=batch, seed=3)],
        tokens=torch.randn(batch, TOKENS, 5, generator=generator, dtype=torch.float64),
        token_gradients=torch.randn(batch, TOKENS, 5, generator=generator, dtype=torch.float64),
        pixels=torch.randn(batch, 3, 8, 6, generator=generator, dtype=torch.float64),
        pixel_gradients=torch.randn(batch, 3, 8, 6, generator=generator, dtype=torch.float64),
    )


def apply(method, seen, **options):
    """The map of evidence that was fused in the same way."""
    return load_object(METHODS[method].function)(seen, Options(**options))


def one_image(seen, image):
    """The evidence of a single image."""

    def of(value):
        return [layer[[image]] for layer in value]

    return replace(
        seen,
        seeds=[seen.seeds[image]],
        probabilities=of(seen.probabilities),
        relevances=of(seen.relevances),
        layer_gradients=of(seen.layer_gradients),
        **{name: getattr(seen, name)[[image]] for name in ("tokens", "token_gradients", "pixels", "pixel_gradients")},
    )


def rolled_out(fused, row):
    """p R_L ... R_1 of one image, by products of whole matrices; fused: (L, N, N)."""
    product = np.eye(len(row))
    for layer in fused:
        mixed = layer + np.eye(len(row))
        product = mixed / mixed.sum(axis=1, keepdims=True) @ product
    return row @ product


def in_numpy(method, seen, fusion, dy_da, ds_da):  # noqa: C901 - a case per method
    """The same maps, image by image, straight from the formulas; gradients are (B, H, N, N) per layer."""
    row, fuse = seen.pooling_row.numpy(), FUSIONS[fusion]
    weights = []
    for image in range(len(seen.seeds)):
        layers = np.stack([layer[image].numpy() for layer in seen.probabilities])  # (L, H, N, N)
        gradients = np.stack([layer[image].numpy() for layer in dy_da])
        fused, positive = fuse(layers, axis=1), fuse(np.maximum(gradients * layers, 0), axis=1)
        match method:
            case "raw":
                found = row @ fused[-1]
            case "classic":
                found = np.mean([row @ layer for layer in fused], axis=0)
            case "rollout":
                found = rolled_out(fused, row)
            case "grad-rollout":
                found = rolled_out(positive, row)
            case "relevance":
                product = np.eye(len(row))
                for layer in positive:
                    product = product + layer @ product  # R <- R + E R, from the first layer to the last
                found = row @ product - row
            case "legrad":
                slopes = np.stack([layer[image].numpy() for layer in ds_da])
                found = fuse(np.maximum(slopes, 0), axis=1).mean(axis=1).sum(axis=0)
            case "gradcam":
                slope = seen.token_gradients[image].numpy()[seen.num_prefix_tokens :].mean(axis=0)
                found = np.maximum(seen.tokens[image].numpy() @ slope, 0)
            case "hirescam":
                found = np.maximum((seen.tokens[image] * seen.token_gradients[image]).numpy().sum(axis=1), 0)
            case "ig":
                shares = (seen.pixels[image] * seen.pixel_gradients[image]).numpy().sum(axis=0)
                rows = [part.sum() for band in np.split(shares, GRID[0]) for part in np.split(band, GRID[1], axis=1)]
                found = np.array([0.0] * seen.num_prefix_tokens + rows)
        weights.append(found)
    return np.stack(weights)


def test_every_method_is_its_formula():
    for row, fusion in product(ROWS, FUSIONS):
        seen = evidence(row, gradients=signed(), fusion=fusion)
        for method in EVERY_METHOD:
            expected = in_numpy(method, seen, fusion, signed(), signed(seed=3))
            with naming(method, row, fusion):
                np.testing.assert_allclose(apply(method, seen, fusion=fusion), expected, rtol=1e-10)


def test_gradients_in_reverse_order_give_another_map():
    seen, backwards = evidence(), evidence(gradients=signed()[::-1])
    for method in OF_GRADIENTS:
        assert (apply(method, seen) - apply(method, backwards)).abs().max() > 1e-3, method


def test_rollout_of_uniform_attention_has_a_closed_form():
    for row, layers in product(ROWS, [1, 3, 12]):
        with naming(row, layers):
            uniform = [torch.full((2, 3, 7, 7), 1 / 7, dtype=torch.float64)] * layers
            expected = 2**-layers * ROWS[row] + (1 - 2**-layers) / 7
            found = apply("rollout", evidence(row, probabilities=uniform, gradients=uniform))
            torch.testing.assert_close(found, expected.expand(2, -1))


def test_attention_to_oneself_gives_patches_nothing_and_no_nan():
    identity = [torch.eye(7, dtype=torch.float64).expand(2, 3, 7, 7)] * 4
    for method, fusion in product([*OF_ATTENTION, "grad-rollout"], FUSIONS):
        with naming(method, fusion):
            row = apply(method, evidence(probabilities=identity, gradients=identity, fusion=fusion), fusion=fusion)
            assert torch.equal(row, class_row().expand(2, -1))
            assert not patch_map(row, grid=(2, 3), num_prefix_tokens=1).any()
            assert sink_share(row, 1).tolist() == [1, 1]


def test_relevance_of_attention_to_oneself_is_nothing_for_patches():
    identity = [torch.eye(7, dtype=torch.float64).expand(2, 3, 7, 7)] * 4
    row = apply("relevance", evidence(probabilities=identity, gradients=identity))
    assert row.tolist() == [[15] + [0] * 6] * 2  # (1 + 1)^4 - 1


def test_no_gradient_is_no_patch_and_no_nan():
    seen = evidence()
    seen = replace(
        seen,
        relevances=[torch.zeros_like(layer) for layer in seen.relevances],
        layer_gradients=[torch.zeros_like(layer) for layer in seen.layer_gradients],
        token_gradients=torch.zeros_like(seen.token_gradients),
        pixel_gradients=torch.zeros_like(seen.pixel_gradients),
    )
    for method in (*OF_GRADIENTS, "legrad", "gradcam", "hirescam", "ig"):
        assert not patch_map(apply(method, seen), grid=GRID, num_prefix_tokens=PREFIX).any(), method


def test_rows_sum_to_1():
    for row, method in product(ROWS, [*OF_ATTENTION, "grad-rollout"]):
        with naming(row, method):
            weights = apply(method, evidence(row))
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))
            assert (weights >= 0).all()


def test_rollout_rows_sum_to_1_however_heads_are_fused():
    for fusion in FUSIONS:
        with naming(fusion):
            weights = apply("rollout", evidence(), fusion=fusion)
            torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_batch_of_three_equals_three_singles():
    seen = evidence()
    for method in METHODS:
        with naming(method):
            options = {"discard": 0.3} if method == "rollout" else {"mass": 0.6} if method == "raw" else {}
            together = apply(method, seen, **options)
            singles = [apply(method, one_image(seen, image), **options) for image in range(3)]
            torch.testing.assert_close(together, torch.cat(singles))
            assert not torch.allclose(together[0], together[1])


def test_the_order_of_the_layers_counts():
    seen = evidence()
    backwards = replace(seen, probabilities=seen.probabilities[::-1], relevances=seen.relevances[::-1])
    for method in ("rollout", "grad-rollout", "relevance"):
        assert (apply(method, seen) - apply(method, backwards)).abs().max() > 1e-3, method


def test_raw_uses_the_last_layer_alone():
    seen = evidence()
    torch.testing.assert_close(apply("raw", seen), apply("raw", replace(seen, probabilities=seen.probabilities[-1:])))


def test_heads_are_fused_entry_by_entry():
    layer = attention(heads=5)[0]
    for fusion, fused in FUSIONS.items():
        with naming(fusion):
            np.testing.assert_allclose(fuse_heads(layer, fusion), fused(layer.numpy(), axis=1))


def test_head_fusions_differ_where_heads_do():
    for method in (*OF_ATTENTION, *OF_GRADIENTS, "legrad"):
        weights = [apply(method, evidence(fusion=fusion), fusion=fusion) for fusion in FUSIONS]
        assert not torch.allclose(weights[0], weights[1]), method
        assert not torch.allclose(weights[1], weights[2]), method


def test_the_weakest_entries_of_each_image_are_discarded():
    fused = attention(heads=1)[0][:, 0]
    for share in (0.1, 0.5, 0.9):
        with naming(share):
            found = without_weakest(fused, share)
            for image, kept in zip(fused.numpy(), found.numpy(), strict=True):
                threshold = np.sort(image, axis=None)[round(share * image.size)]
                np.testing.assert_array_equal(kept, np.where(image >= threshold, image, 0))


def test_discarding_takes_uniform_attention_by_its_share_and_not_whole():
    uniform = torch.full((2, 7, 7), 1 / 7)
    assert (without_weakest(uniform, 0.5) > 0).sum(dim=(1, 2)).tolist() == [25, 25]


def test_rollout_with_discarding_is_rollout_of_what_is_left():
    seen = evidence()
    left = [without_weakest(layer.mean(dim=1), 0.4)[:, None] for layer in seen.probabilities]
    torch.testing.assert_close(apply("rollout", seen, discard=0.4), apply("rollout", replace(seen, probabilities=left)))


def test_the_strongest_patches_hold_the_mass_that_is_asked_for():
    row = torch.tensor([[9.0, 4.0, 1.0, 3.0, 2.0], [9.0, 0.0, 0.0, 0.0, 0.0]])
    assert strongest(row, 0.7, 1).tolist() == [[9, 4, 0, 3, 0], [9, 0, 0, 0, 0]]
    assert strongest(row, 0.71, 1).tolist()[0] == [9, 4, 0, 3, 2]
    assert strongest(row, 0.01, 1).tolist()[0] == [9, 4, 0, 0, 0]


def test_patches_become_a_grid_of_rows_and_columns_without_the_prefix():
    for prefix in (0, 1, 3):
        row = torch.arange(2 * (prefix + 6)).view(2, -1)
        grid = patch_map(row, grid=(2, 3), num_prefix_tokens=prefix)
        assert grid.shape == (2, 2, 3), prefix
        for image in range(2):
            expected = [[row[image, prefix + 3 * h + w].item() for w in range(3)] for h in range(2)]
            assert grid[image].tolist() == expected, prefix


def test_the_sink_share_is_the_mass_on_prefix_tokens():
    row = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    assert sink_share(row, 2).tolist() == [0.75, 0, 0]
    assert sink_share(row, 0).tolist() == [0, 0, 0]


def test_every_registered_method_gives_every_image_a_weight_per_token():
    for method, entry in METHODS.items():
        with naming(method):
            weights = apply(method, evidence())
            assert weights.shape == (3, TOKENS)
            assert weights.isfinite().all()
            assert (weights < 0).any() == entry.is_signed
            assert entry.summary


def test_noise_is_the_same_for_an_image_whatever_stands_beside_it():
    seen = evidence()
    torch.testing.assert_close(apply("random", seen)[1:2], apply("random", replace(seen, seeds=[1])))


def test_methods_are_parsed_in_order_each_once():
    assert parse_methods(["rollout,raw", "rollout"]) == ("rollout", "raw")
    assert parse_methods(["raw", "all"]) == ("raw", *(name for name in EVERY_METHOD if name != "raw"))
    assert "random" not in EVERY_METHOD
    with pytest.raises(UsageError, match="'rolout'") as refusal:
        parse_methods(["raw", "rolout"])
    assert "rollout" in refusal.value.hint
