import pytest
import torch
from torch import Tensor

from vitcli.data.loader import Batches

CPU = torch.device("cpu")
COUNT = 25


def as_float(images: Tensor, _generator: torch.Generator) -> Tensor:
    return images.float()


def with_noise(images: Tensor, generator: torch.Generator) -> Tensor:
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
    loader = batches(transform=lambda images, _: images.zero_())
    order(loader.epoch(1))
    assert torch.equal(loader.images[:, 0, 0, 0], torch.arange(COUNT, dtype=torch.uint8))
