"""What training is told about its epochs, and when it is left alone."""

import math

import pytest
import torch

from tests.builders.trainers import CPU, Batches, build_model, build_trainer
from vitcli.core.events import EpochRecord, Warned
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes
from vitcli.engine.doctor import Doctor
from vitcli.engine.evaluate import Score, score


def answers(accuracy=0.7, images=100, **shares):
    return Score(images=images, accuracy=accuracy, loss=1.0, **shares)


VARIED = answers(majority_share=0.3, favourite_share=0.35)


def record(epoch=1, **changes):
    usual = {
        "learning_rate": 0.01,
        "train_loss": 1.0,
        "train_accuracy": 0.7,
        "val_loss": 1.0,
        "val_accuracy": 0.7,
        "seconds": 60.0,
        "images_per_second": 100.0,
        "data_share": 0.02,
        "is_best": True,
        "grad_norm": 1.5,
    }
    return EpochRecord(epoch=epoch, **{**usual, **changes})


def told(*records, judged=VARIED, steps_per_epoch=50, **config):
    doctor = Doctor(
        OptimConfig(**{"epochs": 10, "lr": 0.02, **config}), steps_per_epoch=steps_per_epoch, preview="vit preview pets"
    )
    return [list(doctor.examine(records[:count], judged)) for count in range(1, len(records) + 1)]


def test_a_rate_far_too_high_is_not_advised_against_by_one_that_is_still_too_high():
    ((said,),) = told(record(grad_norm=523.0), lr=100.0, optimizer="sgd")
    assert "try --lr 0.05 " in said, "the usual rate"


def test_a_training_that_goes_well_hears_nothing():
    assert told(*(record(epoch) for epoch in (1, 2, 3, 4))) == [[], [], [], []]


@pytest.mark.parametrize(
    ("changes", "judged", "words"),
    [
        ({"data_share": 0.43}, VARIED, ("43 % of epoch 3", "--cache", "--workers")),
        (
            {"grad_norm": 523.0},
            VARIED,
            ("norm in epoch 3 is 523", "cut to 1", "--lr 0.002 --set optim.adamw_lr=0.0002 --warmup-epochs 3"),
        ),
        ({"grad_norm": 3e-10}, VARIED, ("vanish", "3e-10", "--lr 0.002")),
        ({}, answers(accuracy=0.3, majority_share=0.3, favourite_share=1.0), ("100.0 %", "30.0 %", "try --find-lr")),
        (
            {"train_loss": 1.5},
            answers(accuracy=0.3, majority_share=0.3, favourite_share=1.0),
            ("--lr 0.002 --set optim.adamw_lr=0.0002, or --find-lr",),
        ),
        (
            {"train_loss": math.nan},
            answers(accuracy=0.3, majority_share=0.3, favourite_share=1.0),
            ("--lr 0.002 --set optim.adamw_lr=0.0002, or --find-lr",),
        ),
    ],
)
def test_each_ill_is_told_once_with_its_numbers_and_what_to_do(changes, judged, words):
    records = [record(1), record(2), record(3, **changes), record(4, **changes)]
    doctor = Doctor(OptimConfig(epochs=10, lr=0.02), steps_per_epoch=50, preview="vit preview pets")
    for count in (1, 2):
        assert list(doctor.examine(records[:count], VARIED)) == []
    (text,) = doctor.examine(records[:3], judged)
    assert all(word in text for word in words), text
    assert "\n" not in text
    assert list(doctor.examine(records, judged)) == []


def test_no_better_than_the_majority_is_told_after_three_epochs_and_enough_steps():
    poor = [record(epoch, val_accuracy=0.28) for epoch in (1, 2, 3, 4)]
    assert [len(texts) for texts in told(*poor)] == [0, 0, 1, 0]
    assert "28.0 %" in told(*poor)[2][0]
    assert "30.0 %" in told(*poor)[2][0]
    assert told(*poor)[2][0].endswith("or look at the images: `vit preview pets`")
    assert [len(texts) for texts in told(*poor[:2], epochs=2)] == [0, 0]
    assert [len(texts) for texts in told(*poor, steps_per_epoch=25)] == [0, 0, 0, 1]
    assert [len(texts) for texts in told(*poor, steps_per_epoch=2)] == [0, 0, 0, 0]
    assert [len(texts) for texts in told(*poor, steps_per_epoch=2, epochs=4)] == [0, 0, 0, 1], "at the end, at last"
    assert "try more --epochs, because 8 steps are few" in told(*poor, steps_per_epoch=2, epochs=4)[3][0]
    assert told(record(1, val_accuracy=0.5), *poor[1:]) == [[], [], [], []]  # it has been better
    few = answers(images=19, majority_share=0.3, favourite_share=0.35)
    assert told(*poor, judged=few) == [[], [], [], []]  # one image more or less is chance


@pytest.mark.parametrize(
    ("changes", "judged"),
    [
        ({"val_accuracy": 1.0}, answers(majority_share=1.0, favourite_share=1.0)),  # all images are of one class
        ({"data_share": 0.9, "seconds": 0.5}, VARIED),  # half a second is nothing to complain about
        ({"grad_norm": None}, VARIED),
    ],
)
def test_what_is_no_ill(changes, judged):
    assert told(*(record(epoch, **changes) for epoch in (1, 2, 3)), judged=judged) == [[], [], []]


def test_shares_of_answers():
    logits = torch.eye(3)[[2, 2, 2, 0]]
    found = score(logits, torch.tensor([0, 1, 0, 2]), Processes())
    assert (found.images, found.majority_share, found.favourite_share) == (4, 0.5, 0.75)


def test_the_trainer_asks_the_doctor():
    events = []
    model = build_model()
    with torch.no_grad():
        model.head[-1].bias[0] = 100.0  # one answer for all images, which so small a learning rate does not change
    train = Batches(size=34, batch_size=1)
    trainer = build_trainer(model, train=train, epochs=3, optimizer="sgd", lr=1e-6, events=events)
    records = trainer.fit()
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert len(warnings) == len(set(warnings))
    assert any("one and the same class" in text for text in warnings)
    assert all(each.grad_norm > 0 for each in records)


def test_steps_that_float16_skipped_have_no_norm():
    """Their gradients overflowed, so they did not vanish."""
    events, precision = [], Precision(CPU, amp="off", dtype="bfloat16")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-60)
    trainer = build_trainer(train=Batches(size=4, batch_size=4), epochs=2, events=events, precision=precision)
    first, second = trainer.fit()
    assert trainer.precision.scaler.get_scale() < 2.0**127
    assert first.grad_norm is None
    assert second.grad_norm > 1e-3
    assert not [event.text for event in events if isinstance(event, Warned) and "vanish" in event.text]


def test_the_norm_is_the_mean_over_steps_of_all_gradients_before_clipping():
    trainer = build_trainer(build_model(), train=Batches(size=12, batch_size=4), clip_grad=1e-3, epochs=1)
    norms = []
    step = trainer.optimizers.step

    def measured(scaler, *, clip_grad):
        gradients = [each.grad.double().flatten() for each in trainer.model.parameters()]
        norms.append(torch.cat(gradients).norm().item())
        return step(scaler, clip_grad=clip_grad)

    trainer.optimizers.step = measured
    (one,) = trainer.fit()
    assert one.grad_norm == pytest.approx(sum(norms) / 3, rel=1e-5)
    assert min(norms) > 1e-3
