"""Images that grow while a model is trained."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.trainers import Batches, Disk, build_model, build_trainer, without_timings
from vitcli.core.errors import Interrupted, UsageError
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.growth import Growth
from vitcli.engine.mixing import Mixing
from vitcli.engine.state import load_state
from vitcli.models.adapt import resize_positions
from vitcli.models.layers import _resampling

SIDES = st.integers(1, 20)


def growth(share=0.5, *, epochs=8, image_size=(8, 8), patch_size=(4, 4)):
    return Growth(share, epochs=epochs, image_size=image_size, patch_size=patch_size)


@given(
    share=st.floats(0.01, 0.99), epochs=st.integers(1, 50), grid=st.tuples(SIDES, SIDES), patch=st.tuples(SIDES, SIDES)
)
def test_sizes_grow_by_whole_patches_to_the_whole(share, epochs, grid, patch):
    whole = (grid[0] * patch[0], grid[1] * patch[1])
    sizes = [
        growth(share, epochs=epochs, image_size=whole, patch_size=patch).size(epoch + 1) for epoch in range(epochs)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] == whole
    assert len(set(sizes)) <= 4
    for size in sizes:
        assert all(side >= step and side % step == 0 for side, step in zip(size, patch, strict=True))


def test_the_four_steps_are_of_equal_length_and_equally_far_apart():
    found = growth(0.25, epochs=8, image_size=(64, 32), patch_size=(4, 4))
    assert [found.size(epoch) for epoch in range(1, 9)] == [
        *[(16, 8)] * 2,
        *[(32, 16)] * 2,
        *[(48, 24)] * 2,
        *[(64, 32)] * 2,
    ]


@pytest.mark.parametrize(
    ("epochs", "sizes"),
    [
        (1, [(64, 32)]),
        (2, [(64, 32), (16, 8)]),
        (5, [(64, 32), (48, 24), (32, 16), (16, 8)]),
        (8, [(64, 32), (48, 24), (32, 16), (16, 8)]),
    ],
)
def test_all_sizes_are_known_beforehand_the_whole_one_first(epochs, sizes):
    assert growth(0.25, epochs=epochs, image_size=(64, 32)).sizes == sizes


def test_a_short_training_ends_with_whole_images_too():
    assert [growth(0.5, epochs=2).size(epoch) for epoch in (1, 2)] == [(4, 4), (8, 8)]
    assert growth(0.5, epochs=1).size(1) == (8, 8)


def test_whole_images_are_left_alone_and_smaller_ones_are_means_of_their_pixels():
    images = torch.randn(3, 2, 8, 8)
    assert growth()(images, 8) is images
    flat = torch.full((1, 1, 8, 8), 0.3)
    torch.testing.assert_close(growth()(flat, 1), torch.full((1, 1, 4, 4), 0.3))
    assert growth()(images, 1).mean().item() == pytest.approx(images.mean().item(), abs=0.1)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_other_shares_are_refused(share):
    with pytest.raises(UsageError, match="progressive"):
        OptimConfig(progressive=share)


# the model

VARIANTS = {
    "class token": {},
    "mean of patches": {"class_token": False, "pooling": "patches"},
    "registers": {"num_registers": 3},
    "tokens without positions": {"prefix_positions": False, "num_registers": 2},
    "two heads": {"distillation": "head"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_images_see_the_positions_of_a_model_of_their_size(variant):
    whole = build_model(image_size=(16, 24), **VARIANTS[variant]).train()
    small = build_model(image_size=(8, 12), **VARIANTS[variant]).train()
    weights = whole.state_dict()
    weights["positions"] = resize_positions(weights["positions"], (4, 6), (2, 3))
    small.load_state_dict(weights)
    images = torch.randn(2, 1, 8, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole(images), small(images), atol=1e-6, rtol=1e-5)


def test_positions_learn_from_small_images_even_where_they_were_resized_without_gradients_before():
    _resampling.cache_clear()
    model, images = build_model(image_size=(16, 16)).train(), torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        model(images)
    model(images).sum().backward()
    assert model.positions.grad.ne(0).all()


# training


def trainer_in(folder, *, stop_after=None):
    model = build_model(dropout=0.2)
    trainer = build_trainer(
        model,
        train=Batches(size=22, batch_size=8),
        mixing=Mixing(mixup=0.8, cutmix=1.0, seed=5),
        growth=growth(epochs=4),
        epochs=4,
        ema=True,
    )
    folder.mkdir(exist_ok=True)
    trainer.save_steps, trainer._saver = 1, Disk(folder, stop_after)
    return trainer


def test_growing_images_go_on_with_the_same_bits(tmp_path):
    whole = trainer_in(tmp_path / "whole")
    whole.fit()
    for at in ((1, 2), (3, 0), (3, 1)):
        folder = tmp_path / "cut-{}-{}".format(*at)
        cut = trainer_in(folder, stop_after=at)
        with pytest.raises(Interrupted):
            cut.fit()
        again = trainer_in(folder)
        again.load_state_dict(load_state(again.saver.path))
        again.fit()
        assert without_timings(again.state_dict()) == without_timings(whole.state_dict()), at


def test_training_sees_growing_images_and_validation_whole_ones(tmp_path):
    trainer, sizes = trainer_in(tmp_path), []
    hook = lambda module, given: sizes.append((module.training, given[0].shape[-1]))  # noqa: E731
    trainer.model.register_forward_pre_hook(hook)
    trainer.fit()
    assert [size for training, size in sizes if training] == [4] * 6 + [8] * 6
    assert {size for training, size in sizes if not training} == {8}
