"""How large the parts of a batch are best, and that to find out leaves no trace."""

import random

import numpy as np
import pytest
import torch

from tests.builders.trainers import FLOAT32, Batches, build_model, build_trainer, device_of
from vitcli.engine.micro_batch_size import fastest_size, micro_batches_that_fit, seconds_by_size
from vitcli.engine.state import copied


def draws():
    return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002


def seeded():
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)


@pytest.mark.parametrize(("images", "parts"), [(8, 1), (7, 2), (4, 2), (3, 4), (1, 8)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_batch_is_cut_into_as_few_parts_as_fit(images, parts, optimizer):
    trainer = build_trainer(optimizer=optimizer, ema=True)
    with device_of(images):
        assert micro_batches_that_fit(trainer) == parts


def test_there_are_never_more_parts_than_images():
    trainer = build_trainer()
    trainer.train = Batches(size=24, batch_size=6)
    with device_of(1):
        assert micro_batches_that_fit(trainer) == 6


def test_memory_that_is_gone_in_the_second_step_counts_too():
    trainer = build_trainer()
    with device_of(4, after=1):
        assert micro_batches_that_fit(trainer) == 2


@pytest.mark.parametrize("find_out", ["fit", "time"])
def test_finding_out_changes_nothing_random(find_out):
    model, trainer = build_model(dropout=0.2), build_trainer(build_model(dropout=0.2))
    before = copied(model.state_dict())
    seeded()
    expected = draws()
    seeded()
    if find_out == "fit":
        micro_batches_that_fit(trainer)
    else:
        seconds_by_size(model.eval(), Batches(size=32).images, FLOAT32)
        assert not model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert draws() == expected


@pytest.mark.parametrize(
    ("images", "sizes"), [(64, [8, 16, 32, 64]), (100, [13, 25, 50, 100]), (15, [15]), (16, [8, 16]), (1, [1])]
)
def test_the_batch_and_its_halves_are_timed(images, sizes):
    seconds = seconds_by_size(build_model(), Batches(size=images).images, FLOAT32)
    assert list(seconds) == [str(size) for size in sizes]
    assert all(value > 0 for value in seconds.values())


def test_what_does_not_fit_is_not_timed():
    with device_of(20):
        assert list(seconds_by_size(build_model(), Batches(size=64).images, FLOAT32)) == ["8", "16"]
    with device_of(4), pytest.raises(torch.OutOfMemoryError):
        seconds_by_size(build_model(), Batches(size=64).images, FLOAT32)


def test_parts_are_no_larger_than_what_takes_long(monkeypatch):
    monkeypatch.setattr("vitcli.engine.micro_batch_size._LONG", 0.0)
    assert list(seconds_by_size(build_model(), Batches(size=64).images, FLOAT32)) == ["8"]


def test_the_fastest_is_taken_and_of_equals_the_largest():
    assert fastest_size({"8": 2.0, "16": 1.0, "32": 1.04, "64": 1.2}) == 32
    assert fastest_size({"8": 1.0}) == 8
    assert fastest_size({"8": 1.0, "128": 1.06}) == 8
