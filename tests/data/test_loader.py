import pytest
import torch
from torch import Tensor

from vitcli.data.loader import Batches

CPU = torch.device("cpu")
COUNT = 25


def as_float(images: Tensor, *_drawn: object) -> Tensor:
    return images.float()


def with_noise(images: Tensor, generator: torch.Generator, *_drawn: object) -> Tensor:
    return images.float() + torch.rand(images.shape, generator=generator)


def batches(*, members: list[int] | None = None, size: int = 8, seed: int = 3, transform: object = as_float) -> Batches:
    """Image number i has all pixels i and the label 100 + i."""
    images = torch.arange(COUNT, dtype=torch.uint8)[:, None, None, None].expand(COUNT, 1, 2, 2).contiguous()
    return Batches(
        images,
        torch.arange(100, 100 + COUNT),
        members=None if members is None else torch.tensor(members),
        batch_size=size,
        transform=transform,  # type: ignore[arg-type]
        device=CPU,
        seed=seed,
    )


def order(passed: object) -> list[int]:
    return [int(label) - 100 for _, labels in passed for label in labels]  # type: ignore[attr-defined]


def test_a_transform_is_told_the_shape_of_each_photo() -> None:
    """In a plain pass too, from which several views of each image are drawn."""
    told: list[Tensor] = []

    def transform(images: Tensor, _generator: object, stretch: Tensor, _share: object) -> Tensor:
        told.append(stretch)
        return images.float()

    passed = batches(transform=transform)
    passed.stretch = torch.arange(COUNT) / 10
    assert order(passed) == (torch.cat(told) * 10).round().long().tolist()
    told.clear()
    assert order(passed.epoch(1)) == (torch.cat(told) * 10).round().long().tolist()


def test_an_epoch_has_every_image_exactly_once() -> None:
    assert sorted(order(batches().epoch(1))) == list(range(COUNT))


def test_an_epoch_is_shuffled_and_a_plain_pass_is_not() -> None:
    assert order(batches().epoch(1)) != list(range(COUNT))
    assert order(batches()) == list(range(COUNT))


def test_images_stay_with_their_labels() -> None:
    for images, labels in batches().epoch(1):
        assert torch.equal(images[:, 0, 0, 0] + 100, labels)


@pytest.mark.parametrize("transform", [as_float, with_noise])
def test_the_same_seed_and_epoch_give_the_same_batches(transform: object) -> None:
    first, second = batches(transform=transform), batches(transform=transform)
    order(second.epoch(1))  # what came before does not matter
    for (images, labels), (images_again, labels_again) in zip(first.epoch(2), second.epoch(2), strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


def test_epochs_and_seeds_differ_from_each_other() -> None:
    orders = [order(batches(seed=seed).epoch(epoch)) for seed in (1, 2) for epoch in (1, 2)]
    assert len({tuple(each) for each in orders}) == 4


@pytest.mark.parametrize(("size", "sizes"), [(8, [8, 8, 8, 1]), (5, [5] * 5), (25, [25]), (1000, [25])])
def test_the_last_smaller_batch_is_kept(size: int, sizes: list[int]) -> None:
    loader = batches(size=size)
    assert [len(labels) for _, labels in loader.epoch(1)] == sizes
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)


def test_only_members_take_part() -> None:
    members = [20, 3, 7, 11]
    loader = batches(members=members, size=3)
    assert loader.num_images == 4
    assert len(loader) == 2
    assert order(loader) == members
    assert sorted(order(loader.epoch(1))) == sorted(members)


def test_the_source_images_are_never_changed() -> None:
    loader = batches(transform=lambda images, *_: images.zero_())
    order(loader.epoch(1))
    assert torch.equal(loader.images[:, 0, 0, 0], torch.arange(COUNT, dtype=torch.uint8))


# every class equally often

FEW = [1] * 2 + [0] * 18 + [2] * 5
"""Labels of 25 images: 18, 2 and 5 of three classes."""


def balanced_batches(*, seed: int = 3, members: list[int] | None = None) -> Batches:
    images = torch.arange(COUNT, dtype=torch.uint8)[:, None, None, None].expand(COUNT, 1, 2, 2).contiguous()
    return Batches(
        images,
        torch.tensor(FEW),
        members=None if members is None else torch.tensor(members),
        batch_size=8,
        transform=as_float,
        device=CPU,
        seed=seed,
        balanced=True,
    )


def drawn(loader: Batches, epochs: int) -> list[tuple[int, int]]:
    """(image, label), in order."""
    return [
        (int(image[0, 0, 0]), int(label))
        for number in range(1, epochs + 1)
        for images, labels in loader.epoch(number)
        for image, label in zip(images, labels, strict=True)
    ]


def test_balanced_epochs_are_as_long_as_others_and_draw_classes_equally_often() -> None:
    loader = balanced_batches()
    assert (len(loader), loader.num_images) == (4, COUNT)
    assert [len(labels) for _, labels in loader.epoch(1)] == [8, 8, 8, 1]
    epochs = 400
    images = drawn(loader, epochs)
    assert len(images) == epochs * COUNT
    assert all(FEW[image] == label for image, label in images)
    shares = torch.tensor([label for _, label in images]).bincount() / len(images)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=4 * (2 / 9 / len(images)) ** 0.5)  # 4 standard deviations
    per_image = torch.tensor([image for image, _ in images]).bincount(minlength=COUNT) / len(images)
    for label, count in ((0, 18), (1, 2), (2, 5)):
        chance = 1 / 3 / count
        expected = pytest.approx([chance] * count, abs=4.5 * (chance / len(images)) ** 0.5)
        assert per_image[torch.tensor(FEW) == label].tolist() == expected


def test_balanced_epochs_are_the_same_again_and_differ_from_each_other() -> None:
    first, second = balanced_batches(), balanced_batches()
    drawn(second, 1)
    assert drawn(first, 2) == drawn(second, 2)
    assert drawn(first, 2)[:COUNT] != drawn(first, 2)[COUNT:]
    assert drawn(balanced_batches(seed=4), 1) != drawn(first, 1)


def test_balanced_epochs_draw_from_the_members_alone_and_by_their_numbers() -> None:
    members = [0, 2, 3, 4, 5, 6, 7, 8]  # one of class 1, seven of class 0
    images = drawn(balanced_batches(members=members), 300)
    assert {image for image, _ in images} == set(members)
    assert len(images) == 300 * 8
    assert sum(label for _, label in images) / len(images) == pytest.approx(0.5, abs=4 * 0.5 / len(images) ** 0.5)


def test_a_plain_pass_is_not_balanced() -> None:
    assert [int(label) for _, labels in balanced_batches() for label in labels] == FEW
