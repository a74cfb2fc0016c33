"""Prediction of hidden patches: what is hidden, what the model sees, and the loss, by NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.model_config import ModelConfig
from vitcli.models.masked import MaskedModel, hidden_patches
from vitcli.models.vit import VisionTransformer

VARIANTS = {
    "class token": {},
    "mean of patches": {"class_token": False, "pooling": "patches", "final_norm": "pooled"},
    "registers": {"num_registers": 2},
    "convolution": {"mlp_conv": 3, "class_token": False, "pooling": "patches", "final_norm": "pooled"},
    "grey": {"in_channels": 1},
}


def build(**changes):
    torch.manual_seed(0)
    fields = {"image_size": (12, 8), "patch_size": (4, 2), "width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32}
    config = ModelConfig(**{**fields, "num_classes": 3, "init_std": 0.2, "patch_init_std": 0.2, **changes})
    return MaskedModel(VisionTransformer(config)).eval()


def some_images(model, count=5):
    config = model.model.config
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, config.in_channels, *config.image_size, generator=generator)


def some_hidden(count=5, share=0.5):
    return hidden_patches(count, torch.Generator().manual_seed(2), patches=12, share=share)


@given(st.integers(0, 9), st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_as_many_patches_are_hidden_of_every_image_as_the_share_says(images, patches, share, seed):
    hidden = hidden_patches(images, torch.Generator().manual_seed(seed), patches=patches, share=share)
    assert (hidden.dtype, hidden.shape) == (torch.bool, (images, patches))
    count = min(max(round(share * patches), 1), patches - 1)
    assert (hidden.sum(dim=1) == count).all()
    again = hidden_patches(images, torch.Generator().manual_seed(seed), patches=patches, share=share)
    assert hidden.equal(again)


def test_every_patch_is_hidden_equally_often():
    hidden = hidden_patches(20_000, torch.Generator().manual_seed(0), patches=10, share=0.3).double()
    assert hidden.mean(dim=0).numpy() == pytest.approx(np.full(10, 0.3), abs=0.015)
    together = (hidden[:, 0] * hidden[:, 1]).mean().item()
    assert together == pytest.approx(3 / 10 * 2 / 9, abs=0.01)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_is_the_error_of_hidden_pixels_normalised_in_each_patch(name):
    model = build(**VARIANTS[name])
    images, hidden = some_images(model), some_hidden()
    losses, predicted = model(images, hidden), model.predict(images, hidden).detach().numpy()
    for at, image in enumerate(images.double().numpy()):
        errors = []
        for patch in np.flatnonzero(hidden[at].numpy()):
            row, column = divmod(int(patch), 4)
            pixels = image[:, 4 * row : 4 * row + 4, 2 * column : 2 * column + 2].transpose(1, 2, 0).ravel()
            wanted = (pixels - pixels.mean()) / np.sqrt(pixels.var() + 0.01)
            errors.append(((predicted[at, patch] - wanted) ** 2).mean())
        assert losses[at].item() == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_hidden_patch_is_not_seen_and_a_visible_one_is(name):
    model = build(**VARIANTS[name])
    images, hidden = some_images(model, 1), some_hidden(1)
    before = model.predict(images, hidden)
    for patch in range(12):
        row, column = divmod(patch, 4)
        changed = images.clone()
        changed[:, :, 4 * row : 4 * row + 4, 2 * column : 2 * column + 2] += 3
        assert model.predict(changed, hidden).equal(before) == bool(hidden[0, patch]), patch


@pytest.mark.parametrize("name", VARIANTS)
def test_visible_patches_are_reconstructed_as_they_are(name):
    model = build(**VARIANTS[name])
    images, hidden = some_images(model), some_hidden()
    torch.testing.assert_close(model.reconstruct(images, torch.zeros_like(hidden)), images, atol=1e-5, rtol=1e-5)
    changed = (model.reconstruct(images, hidden) - images).abs().amax(dim=1) > 1e-4
    cells = hidden.view(5, 3, 4).repeat_interleave(4, dim=1).repeat_interleave(2, dim=2)
    assert not changed[~cells].any()
    assert changed[cells].float().mean() > 0.9


def test_every_weight_that_is_kept_learns_but_the_norm_and_the_head():
    model = build()
    model(some_images(model), some_hidden()).sum().backward()
    silent = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert silent == {"model.norm.weight", "model.norm.bias", "model.head.1.weight", "model.head.1.bias"}


def test_layers_and_decay_are_those_of_the_model():
    model = build()
    assert model.layer_of("model.blocks.1.mlp.fc1.weight") == 2
    assert model.layer_of("mask_token") == model.layer_of("model.patch_embedding.projection.weight") == 0
    assert model.layer_of("decoder.weight") == model.layer_of("model.head.1.weight") == 3
    assert {"mask_token", "model.class_token", "model.positions"} <= model.no_decay
    assert [name for name, _ in model.named_parameters() if model.is_head(name)] == [
        *("decoder_norm.weight", "decoder_norm.bias", "decoder.weight", "decoder.bias")
    ]
