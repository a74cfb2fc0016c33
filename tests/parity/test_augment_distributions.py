"""What augmentation draws, against what torchvision draws: the same distributions, by Kolmogorov and Smirnov.

Seeds are fixed, so that a test passes always or never. Each sample is large enough to tell the mistakes from the truth
that one would make: a ratio drawn evenly and not by its logarithm, a crop pushed inside and not drawn again.
"""

import functools

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from tests.conftest import naming
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform, random_crop, random_flip
from vitcli.data.colour import random_factors
from vitcli.data.erase import random_erase, random_rectangles
from vitcli.data.policies import OPERATIONS, random_operations, ranges
from vitcli.data.preprocess import InputTransform
from vitcli.data.resample import random_boxes, random_resample

DRAWS = 3000
LEAST = 0.01
"""Share of truly equal samples that would differ as much by chance."""


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_alike(ours, theirs):
    """Two samples of one distribution."""
    ours, theirs = (torch.as_tensor(each, dtype=torch.float64).numpy() for each in (ours, theirs))
    assert stats.ks_2samp(ours, theirs).pvalue > LEAST


def assert_share(ours, number, expected):
    """So many of a number are what a probability lets expect."""
    assert stats.binomtest(int(ours), number, expected).pvalue > LEAST


def their_draws(transform, image, keys, number=DRAWS):
    """Columns of what torchvision draws."""
    torch.manual_seed(1)
    drawn = [transform.make_params([image]) for _ in range(number)]
    return torch.tensor([[float(each[key]) for key in keys] for each in drawn]).T


# crops

CROPS = {
    "imagenet": {"whole": (64, 64), "scale": 0.08, "ratio": (3 / 4, 4 / 3)},
    "photos": {"whole": (384, 512), "scale": 0.08, "ratio": (3 / 4, 4 / 3)},
    "large": {"whole": (32, 32), "scale": 0.8, "ratio": (3 / 4, 4 / 3)},
    "wide": {"whole": (40, 200), "scale": 0.6, "ratio": (3 / 4, 4 / 3)},
    "tall": {"whole": (90, 60), "scale": 0.5, "ratio": (1, 2)},
    "stored at half its width": {"whole": (600, 1600), "scale": 0.3, "ratio": (3 / 4, 4 / 3), "stretch": 2.0},
    "stored at twice its width": {"whole": (600, 480), "scale": 0.3, "ratio": (3 / 4, 4 / 3), "stretch": 0.5},
}


def crops(name):
    """Ours and torchvision's, (4, draws) each: top, left, height and width in the photo."""
    draws = 2000
    whole, scale, ratio, stretch = (CROPS[name].get(key, 1.0) for key in ("whole", "scale", "ratio", "stretch"))
    stored = whole[0], int(whole[1] / stretch)
    config = AugmentConfig(crop_scale=scale, crop_ratio=ratio)
    ours = random_boxes(torch.full((draws,), stretch), stored, config, seeded())
    ours = ours * torch.tensor([1, stretch, 1, stretch])[:, None]
    transform = v2.RandomResizedCrop(8, scale=(scale, 1), ratio=ratio)
    return ours, their_draws(transform, torch.empty(3, *whole), ("top", "left", "height", "width"), draws)


@pytest.mark.parametrize("name", CROPS)
def test_crops_are_distributed_as_torchvisions(name):
    samples = []
    for top, left, height, width in crops(name):
        values = {"area": height * width, "ratio": width / height, "right": left + width, "bottom": top + height}
        samples.append({"top": top, "left": left, "height": height, "width": width, **values})
    for what in samples[0]:
        with naming(what):
            assert_alike(*(values[what] for values in samples))


def test_where_no_attempt_fits_the_crop_is_torchvisions_in_the_middle():
    for whole in ((10, 200), (200, 10), (11, 150)):
        config = AugmentConfig(crop_scale=0.99)
        transform = v2.RandomResizedCrop(8, scale=(0.99, 1))
        expected = their_draws(transform, torch.empty(3, *whole), ("top", "left", "height", "width"), 20)
        assert torch.equal(random_boxes(torch.ones(20), whole, config, seeded()).float(), expected)


@pytest.mark.parametrize("way", [{}, {"rotate": 1e-9}], ids=["crop alone", "with turns"])
def test_the_boxes_drawn_are_the_boxes_cut_out(way):
    """Channel 0 holds each pixel's x, channel 1 its y: means and slopes of the result tell the box."""
    height, width = 48, 64
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    config = AugmentConfig(crop_scale=0.3, **way)
    boxes = random_boxes(torch.ones(200), (height, width), config, seeded())
    images = torch.stack([x, y]).expand(200, -1, -1, -1)
    result = random_resample(torch.ones(200), (height, width), (64, 64), config, seeded())(images, slice(0, 200))
    top, left, box_height, box_width = boxes.double()
    result = result.double()
    centre = torch.stack([left + box_width / 2, top + box_height / 2], dim=1)
    sides = 2 * torch.stack([result[:, 0, 32, 47] - result[:, 0, 32, 15], result[:, 1, 47, 32] - result[:, 1, 15, 32]])
    torch.testing.assert_close(result[:, :, 31:33, 31:33].mean(dim=(2, 3)), centre, atol=0.01, rtol=0)
    torch.testing.assert_close(sides, torch.stack([box_width, box_height]), atol=0.02, rtol=0)


def test_crops_after_padding_are_distributed_as_torchvisions():
    images = torch.zeros(DRAWS, 1, 12, 12, dtype=torch.uint8)
    images[:, :, 6, 6] = 1
    found = random_crop(DRAWS, 3, seeded())(images, slice(0, DRAWS)).nonzero()[:, 2:]
    theirs = their_draws(v2.RandomCrop(12, padding=3), torch.empty(1, 12, 12), ("top", "left"))
    for axis in (0, 1):
        ours = torch.bincount(9 - found[:, axis], minlength=7)
        expected = torch.bincount(theirs[axis].long(), minlength=7)
        assert stats.chi2_contingency(torch.stack([ours, expected]).numpy()).pvalue > LEAST


# flips and turns


@pytest.mark.parametrize("axis", [2, 3])
def test_flips_come_with_their_probability_with_and_without_resampling(axis):
    images = torch.arange(64.0).view(1, 1, 8, 8).expand(DRAWS, -1, -1, -1)
    name = {2: "vertical_flip", 3: "flip"}[axis]
    resampled = random_resample(torch.ones(DRAWS), (8, 8), (8, 8), AugmentConfig(rotate=1e-9, **{name: 0.3}), seeded())
    for change in (random_flip(DRAWS, 0.3, axis, seeded()), resampled):
        is_flipped = (change(images, slice(0, DRAWS)) - images.flip(axis)).abs().flatten(1).amax(dim=1) < 0.1
        assert_share(is_flipped.sum(), DRAWS, 0.3)


def affine_of(config):
    """The maps of a batch, from pixels to pixels, read off ramps: (draws, 2, 2) and centres (draws, 2)."""
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(32.0) - 15.5, indexing="ij")
    images = torch.stack([x, y]).expand(DRAWS, -1, -1, -1)
    result = random_resample(torch.ones(DRAWS), (32, 32), (32, 32), config, seeded())(images, slice(0, DRAWS))
    along_x = (result[:, :, 14, 17] - result[:, :, 14, 14]) / 3
    along_y = (result[:, :, 17, 14] - result[:, :, 14, 14]) / 3
    return torch.stack([along_x, along_y], dim=2), result[:, :, 14:18, 14:18].mean(dim=(2, 3))


def test_angles_are_distributed_as_torchvisions():
    matrix, _ = affine_of(AugmentConfig(rotate=25))
    ours = torch.atan2(matrix[:, 0, 1], matrix[:, 0, 0]).rad2deg()
    assert_alike(ours, their_draws(v2.RandomRotation(25), torch.empty(3, 32, 32), ("angle",))[0])


def test_shears_are_distributed_as_torchvisions():
    matrix, _ = affine_of(AugmentConfig(shear=20))
    torch.manual_seed(1)
    transform = v2.RandomAffine(0, shear=20)
    theirs = [transform.make_params([torch.empty(3, 32, 32)])["shear"] for _ in range(DRAWS)]
    assert all(along_y == 0 for _, along_y in theirs)
    assert_alike(matrix[:, 0, 1].atan().rad2deg(), [along_x for along_x, _ in theirs])


def test_shifts_are_distributed_as_torchvisions_but_for_its_whole_pixels():
    _, centre = affine_of(AugmentConfig(shift=0.1))
    torch.manual_seed(1)
    transform = v2.RandomAffine(0, translate=(0.1, 0.1))
    theirs = [transform.make_params([torch.empty(3, 3200, 3200)])["translate"] for _ in range(DRAWS)]
    for axis in (0, 1):
        assert_alike(-centre[:, axis], [each[axis] / 100 for each in theirs])


# colours


@pytest.mark.parametrize("strength", [0.4, 1.5])
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "hue"])
def test_factors_of_colours_are_distributed_as_torchvisions(kind, strength):
    strength = min(strength, 0.5) if kind == "hue" else strength
    ours = random_factors(DRAWS, AugmentConfig(**{kind: strength}), seeded())
    row = ["brightness", "contrast", "saturation", "hue"].index(kind)
    theirs = their_draws(v2.ColorJitter(**{kind: strength}), torch.empty(3, 4, 4), (f"{kind}_factor",))
    assert_alike(ours[row], theirs[0])


# erasing


def rectangles(size):
    """Ours and torchvision's, (4, draws) each: top, left, height and width of those that fit."""
    transform = v2.RandomErasing(1.0)
    torch.manual_seed(1)
    drawn = [transform.make_params([torch.empty(1, *size)]) for _ in range(DRAWS)]
    theirs = torch.tensor([[each[key] for key in "ijhw"] for each in drawn if each["v"] is not None]).T
    ours = random_rectangles(DRAWS, *size, seeded())
    return ours[:, ours[2] > 0], theirs


@pytest.mark.parametrize("size", [(32, 32), (96, 64), (6, 20)])
def test_erased_rectangles_are_distributed_as_torchvisions(size):
    ours, theirs = rectangles(size)
    samples = []
    for top, left, height, width in (ours, theirs):
        values = {"area": height * width, "ratio": height / width}
        samples.append({"top": top, "left": left, "h": height, "w": width, **values})
    assert abs(ours.shape[1] - theirs.shape[1]) < 0.02 * DRAWS
    for what in samples[0]:
        with naming(what):
            assert_alike(*(values[what] for values in samples))


def test_erasing_comes_with_its_probability():
    images = random_erase(torch.full((DRAWS, 1, 16, 16), 1000.0), 0.25, seeded())
    assert_share((images != 1000).flatten(1).any(dim=1).sum(), DRAWS, 0.25)


# policies


@functools.cache
def their_policy(policy):
    """What torchvision's policy does to many images: names and magnitudes."""
    transform = {"trivial": v2.TrivialAugmentWide(), "rand": v2.RandAugment(num_ops=1)}[policy]
    seen = []
    transform._apply_image_or_video_transform = lambda image, name, magnitude, **_: (
        seen.append((name, magnitude)) or image
    )
    torch.manual_seed(1)
    image = torch.zeros(3, 32, 48, dtype=torch.uint8)
    for _ in range(DRAWS):
        transform(image)
    names = list(transform._AUGMENTATION_SPACE)
    return torch.tensor([names.index(name) for name, _ in seen]), torch.tensor([magnitude for _, magnitude in seen])


@functools.cache
def our_policy(policy):
    return random_operations(DRAWS, ranges(policy, (32, 48)).table(), AugmentConfig(policy=policy), seeded())


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_operations_come_as_often_as_torchvisions(policy):
    counts = [torch.bincount(draw(policy)[0], minlength=14) for draw in (our_policy, their_policy)]
    assert stats.chisquare(counts[0].numpy()).pvalue > LEAST
    assert stats.chi2_contingency(torch.stack(counts).numpy()).pvalue > LEAST


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_magnitudes_are_distributed_as_torchvisions(policy):
    for index, operation in enumerate(OPERATIONS):
        ours, theirs = (
            draws[operations == index].double() for operations, draws in (our_policy(policy), their_policy(policy))
        )
        with naming(operation):
            assert_alike(ours.float(), (theirs * (255 if operation == "solarize" else 1)).float())


# all of it


def test_the_whole_transform_has_torchvisions_mean_and_spread():
    """The mean of many batches of one image, and how far they spread, per pixel."""
    image = torch.randint(256, (3, 16, 16), dtype=torch.uint8, generator=seeded(3))
    config = AugmentConfig(crop_scale=0.3, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grey=0.2)
    geometry = Geometry(size=(16, 16), channels=3)
    preprocessing = Preprocessing(geometry=geometry, image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    transform = TrainTransform(config, InputTransform(preprocessing, torch.device("cpu")))
    generator = seeded()
    ours = torch.cat([transform(image.expand(10, -1, -1, -1), generator) for _ in range(100)])
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(8, scale=(0.3, 1)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )
    torch.manual_seed(1)
    theirs = torch.stack([theirs(image) for _ in range(1000)])
    error = (ours.var(dim=0) / 1000 + theirs.var(dim=0) / 1000).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)) / error).abs().max() < 4.5
    assert (ours.std(dim=0) / theirs.std(dim=0)).log().abs().mean() < 0.05
