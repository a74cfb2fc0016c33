"""Every operation at every strength against torchvision's, image by image."""

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode, RandAugment, TrivialAugmentWide

from vitcli.core.augment_config import AugmentConfig
from vitcli.data.policies import OPERATIONS, apply, equalize, random_operations, random_policy, ranges

THEIR_NAMES = dict(
    zip(
        OPERATIONS,
        (
            *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
            *("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
        ),
        strict=True,
    )
)
THEIRS = {"trivial": TrivialAugmentWide, "rand": RandAugment}
WITHOUT_STRENGTH = {"identity", "autocontrast", "equalize"}
EXACT = {"identity", "translate-x", "translate-y", "brightness", "posterize", "solarize", "equalize"}
GEOMETRY = OPERATIONS[1:6]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(batch, channels, height, width):
    """Noise, some of it dark, of few levels or of one."""
    images = torch.randint(256, (batch, channels, height, width), dtype=torch.uint8, generator=seeded())
    images[0::4] //= 5
    images[1::4] = 64 * (images[1::4] // 64)
    images[2] = 7
    return images


def their_magnitudes(policy, operation, height, width):
    make, signed = THEIRS[policy]._AUGMENTATION_SPACE[THEIR_NAMES[operation]]
    magnitudes = make(31, height, width)
    return torch.zeros(31) if magnitudes is None else magnitudes.float(), signed


def theirs(image, operation, magnitude):
    return RandAugment()._apply_image_or_video_transform(
        image,
        THEIR_NAMES[operation],
        magnitude,
        interpolation=InterpolationMode.BILINEAR,
        fill={torch.Tensor: None},
    )


@pytest.mark.parametrize("policy", THEIRS)
def test_strengths_are_torchvisions(policy):
    for operation, ours in zip(OPERATIONS, ranges(policy, (40, 60)).table(), strict=True):
        expected, _ = their_magnitudes(policy, operation, 40, 60)
        assert torch.equal(ours, 255 * expected if operation == "solarize" else expected), operation


@pytest.mark.parametrize(
    ("policy", "channels", "height", "width"),
    [("trivial", 3, 24, 33), ("rand", 3, 24, 33), ("trivial", 1, 20, 20), ("trivial", 3, 2, 5)],
)
def test_operations_are_torchvisions(policy, channels, height, width):
    """Up to one grey level where rounding decides; of moved pixels, and of those of most others, hardly any."""
    images = pictures(31, channels, height, width)
    for index, (operation, strengths) in enumerate(
        zip(OPERATIONS, ranges(policy, (height, width)).table(), strict=True)
    ):
        magnitudes, signed = their_magnitudes(policy, operation, height, width)
        for sign in (1, -1) if signed else (1,):
            expected = [
                theirs(image, operation, sign * float(each)) for image, each in zip(images, magnitudes, strict=True)
            ]
            result = apply(images, torch.full((31,), index), sign * strengths)
            assert result.dtype == torch.uint8, operation
            difference = (result.int() - torch.stack(expected).int()).abs()
            assert difference.max() <= (operation not in EXACT), operation
            if operation in GEOMETRY:
                assert (difference > 0).float().mean() < 0.01, operation


def test_more_strength_changes_more():
    images = pictures(31, 3, 24, 33)[3:4].expand(31, -1, -1, -1)
    for index, (operation, table) in enumerate(zip(OPERATIONS, ranges("trivial", (24, 33)).table(), strict=True)):
        if operation not in WITHOUT_STRENGTH:
            changed = apply(images, torch.full((31,), index), table)
            change = (changed.float() - images).abs().mean(dim=(1, 2, 3))
            assert change[0] < 1.5, operation
            assert change[30] > 3, operation


def test_images_of_a_batch_have_operations_of_their_own():
    images = pictures(14, 3, 12, 12)
    operations = torch.randperm(14, generator=seeded(1))
    magnitudes = ranges("trivial", (12, 12)).table()[operations, 20]
    result = apply(images, operations, magnitudes)
    for index in range(14):
        alone = apply(images[[index]], operations[[index]], magnitudes[[index]])
        assert torch.equal(result[[index]], alone), OPERATIONS[operations[index]]
        if OPERATIONS[operations[index]] == "identity":
            assert torch.equal(result[index], images[index])


def test_the_images_given_stay_as_they_are():
    images = pictures(28, 3, 12, 12)
    kept = images.clone()
    apply(images, torch.arange(28) % 14, ranges("trivial", (12, 12)).table()[torch.arange(28) % 14, 30])
    assert torch.equal(images, kept)


def test_equalizing_uses_all_levels_about_equally():
    image = (torch.arange(4096) // 64).to(torch.uint8).view(1, 1, 64, 64)
    result = equalize(image, torch.zeros(1)).flatten()
    assert result.min() == 0
    assert result.max() == 255
    assert result.unique().diff().float().std() < 1


def test_randaugment_applies_as_many_operations_as_asked_all_of_one_strength():
    config = AugmentConfig(policy="rand", policy_ops=3, policy_magnitude=12)
    images = pictures(30, 3, 12, 12)
    table = ranges("rand", (12, 12)).table()
    generator = seeded()
    expected = images
    for _ in range(3):
        operations, magnitudes = random_operations(30, table, config, generator)
        assert torch.equal(magnitudes.abs(), table[operations, 12])
        expected = apply(expected, operations, magnitudes)
    assert torch.equal(random_policy(30, (12, 12), config, seeded())(images, slice(0, 30)), expected)


def test_trivialaugment_applies_one_operation_whatever_randaugment_is_told():
    config = AugmentConfig(policy="trivial", policy_ops=3, policy_magnitude=0)
    images = pictures(30, 3, 12, 12)
    operations, magnitudes = random_operations(30, ranges("trivial", (12, 12)).table(), config, seeded())
    expected = apply(images, operations, magnitudes)
    assert torch.equal(random_policy(30, (12, 12), config, seeded())(images, slice(0, 30)), expected)


def test_parts_of_a_batch_are_changed_as_in_the_batch():
    images = pictures(21, 3, 12, 12)
    change = random_policy(21, (12, 12), AugmentConfig(policy="rand"), seeded())
    pieces = [change(images[part], part) for part in (slice(0, 9), slice(9, 10), slice(10, 21))]
    assert torch.equal(torch.cat(pieces), change(images, slice(0, 21)))
