"""The loop of pretraining: what it learns, resuming at every step, and losses that are not finite."""

import math

import pytest
import torch

from tests.builders.trainers import CPU, Batches, Disk, build_model
from vitcli.core.errors import Interrupted, TrainingError
from vitcli.core.events import PretrainingEpoch
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.pretraining import Pretrainer
from vitcli.engine.state import copied, load_state
from vitcli.models.masked import MaskedModel, hidden_patches


class Kept:
    """A saver that counts epochs."""

    def __init__(self):
        self.state = None
        self.epochs = 0

    def save_epoch(self, state):
        self.state, self.epochs = copied(state), self.epochs + 1

    def save_step(self, state):
        self.state = copied(state)


def hide(count, generator):
    return hidden_patches(count, generator, patches=4, share=0.5)


def build(*, events=None, dropout=0.0, precision=None, **settings):
    torch.manual_seed(0)
    batches = Batches(size=12, batch_size=4)
    return Pretrainer(
        MaskedModel(build_model(dropout=dropout)),
        train=batches,
        val=batches,
        hide=hide,
        config=OptimConfig(**{"epochs": 3, "optimizer": "muon", "lr": 0.02, "warmup_epochs": 1, **settings}),
        precision=precision or Precision(CPU, amp="off", dtype="bfloat16"),
        val_precision=precision or Precision(CPU, amp="off", dtype="bfloat16"),
        saver=Kept(),
        emit=(lambda event: None) if events is None else events.append,
        stop=StopRequest(),
        seed=5,
    )


def weights(pretrainer):
    return {name: value.clone() for name, value in pretrainer.model.state_dict().items()}


def test_the_loss_falls_below_that_of_knowing_nothing():
    events = []
    pretrainer = build(epochs=40, events=events)
    records = pretrainer.fit()
    assert [event for event in events if isinstance(event, PretrainingEpoch)] == records
    assert records[0].train_loss > 0.9
    assert records[-1].train_loss < 0.85
    assert records[-1].val_loss < 0.85
    assert pretrainer.saver.epochs == 40


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "schedule-free"])
@pytest.mark.parametrize("place", [(1, 1), (1, 3), (2, 0), (2, 2), (3, 3)])
def test_a_pretraining_goes_on_as_if_it_had_not_stopped(place, optimizer, tmp_path):
    schedule = {"schedule": "constant"} if optimizer == "schedule-free" else {}
    settings = {"optimizer": optimizer, "dropout": 0.1, **schedule}
    whole, stopped, again = (build(**settings) for _ in range(3))
    expected = whole.fit()
    stopped.save_steps, stopped._saver = 1, Disk(tmp_path, place)
    with pytest.raises(Interrupted):
        stopped.fit()
    again.load_state_dict(load_state(stopped.saver.path))
    found = again.fit()
    assert [(each.train_loss, each.val_loss) for each in found] == [
        (each.train_loss, each.val_loss) for each in expected
    ]
    assert all(value.equal(weights(whole)[name]) for name, value in weights(again).items())


def test_the_same_patches_of_held_out_images_are_hidden_in_every_epoch():
    losses = [record.val_loss for record in build(lr=1e-30, adamw_lr=1e-30, weight_decay=0, epochs=3).fit()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_micro_batches_have_the_gradients_of_the_batch():
    whole, parts = build(epochs=1), build(epochs=1, grad_accum_steps=2)
    assert whole.fit()[0].train_loss == pytest.approx(parts.fit()[0].train_loss, rel=1e-4)
    assert parts.micro_batches.count == 2


def test_a_loss_that_is_not_finite_is_an_error():
    pretrainer = build(epochs=4, optimizer="sgd", lr=1e30, clip_grad=0, schedule="constant", warmup_epochs=0)
    with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch"):
        pretrainer.fit()


def test_bfloat16_learns_too():
    records = build(epochs=20, precision=Precision(CPU, amp="on", dtype="bfloat16")).fit()
    assert math.isfinite(records[-1].train_loss)
    assert records[-1].train_loss < records[0].train_loss
