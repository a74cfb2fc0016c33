"""A map lies exactly on the pixels of its patches, and its colours stand for its values."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conftest import naming
from vitcli.core.errors import UsageError
from vitcli.figures.attention_overlay import overlay, panel, patch_box, shown_whole, spread
from vitcli.figures.attention_style import MapPicture, Style, Subject, colour_indices, number, scale_of

GRIDS = [(1, 1), (2, 3), (3, 2), (4, 4), (7, 5), (14, 14)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic"]


def one_hot(grid: tuple[int, int], patch: tuple[int, int]) -> NDArray[np.float32]:
    weights = np.zeros(grid, dtype=np.float32)
    weights[patch] = 1
    return weights


def veil(grid: tuple[int, int], patch: tuple[int, int], image: NDArray[np.uint8], interp: str, box=None) -> NDArray:
    """How much of the patch each pixel shows, 0 to 1: a grey colour map of full opacity over black, read back."""
    picture = MapPicture(method="m", weights=one_hot(grid, patch))
    style = Style(cmap="gray", alpha=1, norm="none", interp=interp)
    drawn = overlay(image, picture, style, scale_of(picture.weights, "none", is_signed=False), box=box)
    assert (drawn[..., 0] == drawn[..., 1]).all()
    return drawn[..., 0] / 255


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(2, 9)),
    patch_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    at=st.data(),
)
def test_nearest_is_the_rectangle_of_the_patch(grid, patch_size, at) -> None:
    row, column = at.draw(st.integers(0, grid[0] - 1)), at.draw(st.integers(0, grid[1] - 1))
    height, width = grid[0] * patch_size[0], grid[1] * patch_size[1]
    shown = veil(grid, (row, column), np.zeros((height, width, 3), dtype=np.uint8), "nearest")
    expected = np.zeros((height, width))
    left, top, right, bottom = patch_box((row, column), grid, (0, 0, width, height))
    assert (left, right) == (column * patch_size[1], (column + 1) * patch_size[1])
    expected[int(top) : int(bottom), int(left) : int(right)] = 1
    assert np.array_equal(shown, expected)


def test_the_centre_of_mass_is_the_centre_of_the_patch() -> None:
    size = 16
    for grid, interp in product([grid for grid in GRIDS if min(grid) > 2], INTERPOLATIONS):
        with naming(grid, interp):
            for patch in ((1, 1), (grid[0] // 2, grid[1] - 2), (grid[0] - 2, 1)):
                shown = veil(grid, patch, np.zeros((grid[0] * size, grid[1] * size, 3), dtype=np.uint8), interp)
                y, x = np.mgrid[: shown.shape[0], : shown.shape[1]] + 0.5
                for centre, index in ((y, patch[0]), (x, patch[1])):
                    assert (centre * shown).sum() / shown.sum() == pytest.approx((index + 0.5) * size, abs=0.5)


def test_between_patches_it_is_what_torch_does() -> None:
    for grid, interp in product(GRIDS, INTERPOLATIONS):
        weights = np.random.default_rng(0).normal(size=grid).astype(np.float32)
        height, width = grid[0] * 8, grid[1] * 5
        options = {} if interp == "nearest" else {"align_corners": False}
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(weights).double()[None, None], (height, width), mode=interp, **options
        )
        y, x = ((np.arange(side) + 0.5) * count / side for side, count in zip((height, width), grid, strict=True))
        assert np.allclose(spread(weights, y, x, interp), expected[0, 0].numpy(), atol=1e-12), (grid, interp)


def test_inside_the_box_alone() -> None:
    """A picture of 90 x 60 of which the model saw 40 x 40, cut into 2 x 4 patches, and is shown at three times the size."""
    whole = np.full((3, 60, 90), 100, dtype=np.uint8)
    subject = Subject(name="", pixels=whole[:, 10:50, 20:60], whole=whole, box=(20, 10, 60, 50))
    image, box = shown_whole(subject, least=180)
    assert image.shape == (180, 270, 3)
    assert box == (60, 30, 180, 150)
    shown = veil((2, 4), (1, 2), np.zeros_like(image), "nearest", box=box)
    expected = np.zeros((180, 270))
    expected[90:150, 120:150] = 1
    assert np.array_equal(shown, expected)
    picture = MapPicture(method="m", weights=np.ones((2, 4), dtype=np.float32))
    changed = (
        overlay(image, picture, Style(), scale_of(picture.weights, "p99", is_signed=False), box=box) != image
    ).any(-1)
    assert np.array_equal(np.argwhere(changed).min(0), (30, 60))
    assert changed.sum() == 120 * 120


def test_a_box_between_pixels_moves_with_them() -> None:
    """A crop that was cut after resizing ends between the pixels of the picture."""
    image = np.zeros((50, 50, 3), dtype=np.uint8)
    shown = veil((1, 2), (0, 1), image, "nearest", box=(9.6, 4.4, 30.8, 40.0))
    columns, rows = np.flatnonzero(shown.any(0)), np.flatnonzero(shown.any(1))
    assert (columns[0], columns[-1]) == (20, 30)  # centres between 20.2 and 30.8
    assert (rows[0], rows[-1]) == (4, 39)


def test_panels_are_enlarged_by_whole_factors_and_never_huge() -> None:
    for shape, expected in (
        ((1, 8, 8), (448, 448)), ((3, 30, 50), (450, 750)), ((3, 600, 400), (600, 400)), ((3, 8, 64), (128, 1024)),
        ((3, 500, 700), (500, 700)), ((3, 3000, 4000), (768, 1024)), ((1, 1, 3000), (1, 1024)),
    ):  # fmt: skip
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        shown = panel(pixels, least=448)
        assert shown.shape == (*expected, 3), shape
        factor = expected[0] // shape[1]
        if factor > 1:
            colour = np.broadcast_to(pixels, (3, *shape[1:])).transpose(1, 2, 0)
            assert np.array_equal(shown, colour.repeat(factor, axis=0).repeat(factor, axis=1)), shape


def weights_of(*values: float) -> NDArray[np.float32]:
    return np.array([values], dtype=np.float32)


def test_ends_of_the_scale() -> None:
    for norm, is_signed, values, low, high in [
        ("p99", False, range(101), 0, 99),
        ("max", False, range(1, 101), 0, 100),
        ("minmax", False, range(1, 101), 1, 100),
        ("none", False, (0, 0.25), 0, 1),
        ("p99", True, range(-100, 1), -99, 99),
        ("max", True, (-1, 0, 4), -4, 4),
        ("minmax", True, (-1, 0, 4), -4, 4),
        ("none", True, (-0.5, 0.5), -1, 1),
        ("p99", False, [0] * 199 + [3], 0, 3),  # the percentile alone would leave nothing to see
        ("p99", True, [0] * 199 + [-3], -3, 3),
        ("max", False, (-1e-3, 1), -1e-3, 1),
        ("max", False, (-2, -1), -2, 0),
        ("p99", False, (0, 1e-40), 0, 1e-40),
    ]:
        with naming(norm, is_signed, low, high):
            scale = scale_of(weights_of(*values), norm, is_signed=is_signed)
            assert (scale.low, scale.high) == pytest.approx((low, high), rel=1e-5)
            assert (scale.least, scale.most) == pytest.approx((min(values), max(values)), rel=1e-5)


def test_one_value_everywhere_has_its_own_colour_where_colours_mean_values() -> None:
    for value, is_signed, share in [(0.0, False, 0), (0.25, False, 0.25), (0.5, True, 0.75)]:
        weights = np.full((3, 4), value, dtype=np.float32)
        assert scale_of(weights, "none", is_signed=is_signed).fractions(weights) == pytest.approx(share), value


def test_one_value_everywhere_is_a_flat_veil() -> None:
    for value, is_signed, norm in product([0.0, 1 / 197, -0.25, 1e-30], [False, True], ["p99", "max", "minmax"]):
        with naming(value, is_signed, norm):
            weights = np.full((3, 4), value, dtype=np.float32)
            weights[0, 0] = np.nextafter(weights[0, 0], np.float32(1)) if value else 0  # rounding is not a structure
            scale = scale_of(weights, norm, is_signed=is_signed)
            assert scale.is_flat
            assert scale.low == pytest.approx(value)
            picture = MapPicture(method="m", weights=weights, is_signed=is_signed)
            drawn = overlay(np.full((30, 40, 3), 90, dtype=np.uint8), picture, Style(norm=norm), scale)
            assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_no_number_is_no_picture() -> None:
    for value in (np.nan, np.inf, -np.inf):
        with naming(value), pytest.raises(AssertionError, match="NaN"):
            scale_of(weights_of(0, value), "p99", is_signed=False)


def test_colours_follow_values() -> None:
    scale = scale_of(weights_of(0, 1), "max", is_signed=False)
    assert colour_indices(np.array([0, 0.25, 0.5, 1, 2]), scale).tolist() == [0, 64, 128, 255, 255]
    signed = scale_of(weights_of(-2, 1), "max", is_signed=True)
    assert colour_indices(np.array([-2, 0, 2.0]), signed).tolist() == [0, 128, 255]
    middle = Style().colours(is_signed=True)[128].astype(int)
    assert middle.min() > 230, "0 is white where values have a sign"
    assert Style().colours(is_signed=True)[0].tolist() != Style().colours(is_signed=True)[255].tolist()


def test_opacity() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = MapPicture(method="m", weights=np.random.default_rng(1).random((2, 3), dtype=np.float32))
    scale = scale_of(picture.weights, "max", is_signed=False)
    none, half, full = (overlay(image, picture, Style(alpha=alpha), scale).astype(float) for alpha in (0, 0.5, 1))
    assert np.array_equal(none, image)
    assert np.allclose(half, (none + full) / 2, atol=0.5)


def test_numbers_are_short() -> None:
    texts = {0.0: "0", 0.0203412: "0.0203", 1.23e-5: "1.23e-5", -0.25: "-0.25", 1e21: "1e21"}
    assert {value: number(value) for value in texts} == texts


def test_a_style_that_is_none() -> None:
    for wrong, words in (
        ({"cmap": "viridsi"}, "viridis"), ({"alpha": 1.5}, "0 to 1"), ({"alpha": float("nan")}, "0 to 1"),
        ({"min_size": 0}, "0 pixels"), ({"norm": "p98"}, "p99"), ({"interp": "linear"}, "bilinear"),
    ):  # fmt: skip
        with naming(wrong):
            with pytest.raises(UsageError) as caught:
                Style(**wrong)
            assert words in f"{caught.value.message} {caught.value.hint}"
