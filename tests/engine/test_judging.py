"""Averages of weights that are judged beside them, and what is kept of an epoch."""

import pytest
import torch

from tests.builders.trainers import (
    Batches,
    Disk,
    Weights,
    build_model,
    build_trainer,
    equal,
    score_of,
    script_validation,
    without_timings,
)
from vitcli.core.config import TrainConfig
from vitcli.core.errors import Interrupted, UsageError
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.state import copied, judged_weights, load_state
from vitcli.training.stated_settings import stated_settings


def fitted(**settings):
    trainer = build_trainer(lr=0.02, **settings)
    trainer._saver = Weights()
    trainer.fit()
    return trainer


# moving average


def test_the_plain_weights_are_judged_beside_the_moving_average():
    trainer = fitted(epochs=3, ema=True, ema_decay=0.8)
    saver = trainer.saver
    for record, plain, judged in zip(trainer.records, saver.plain, saver.judged, strict=True):
        ours, kept = score_of(plain, trainer), score_of(judged, trainer)
        assert (record.plain_val_loss, record.plain_val_accuracy) == (ours.loss, ours.accuracy)
        assert (record.average_val_loss, record.average_val_accuracy) == (kept.loss, kept.accuracy)
        assert (record.val_loss, record.val_accuracy) == (kept.loss, kept.accuracy)
        assert ours != kept


def test_without_an_average_there_is_nothing_beside():
    record = fitted(epochs=1).records[0]
    beside = ("plain_val_loss", "plain_val_accuracy", "average_val_loss", "average_val_accuracy")
    assert [getattr(record, name) for name in beside] == [None] * 4


# the mean of the last epochs


def test_the_last_epochs_are_averaged_alike():
    saver = fitted(epochs=5, swa_epochs=3).saver
    mean = {name: torch.stack([each[name] for each in saver.plain[2:]]).mean(dim=0) for name in saver.plain[0]}
    trainer = fitted(epochs=5, swa_epochs=3)
    for name, tensor in trainer.average.model.state_dict().items():
        torch.testing.assert_close(tensor, mean[name], atol=1e-6, rtol=0)


def test_before_the_last_epochs_all_is_as_without():
    plain, averaged = fitted(epochs=6, schedule="cosine"), fitted(epochs=6, schedule="cosine", swa_epochs=3)
    for epoch in range(3):
        assert equal(plain.saver.plain[epoch], averaged.saver.plain[epoch])
        assert equal(averaged.saver.judged[epoch], averaged.saver.plain[epoch])
        assert averaged.records[epoch].average_val_loss is None
    assert averaged.records[3].average_val_loss == averaged.records[3].plain_val_loss  # of one epoch


def test_the_average_is_kept_only_where_it_is_better(monkeypatch):
    script_validation(
        monkeypatch,
        [(1, 1.0), (2, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (4, 1.0), (3, 1.0), (4, 2.0), (4, 3.0)],
    )  # epoch 1; then of each epoch plain and average
    trainer = fitted(epochs=5, swa_epochs=4)
    records, saver = trainer.records, trainer.saver
    assert [record.val_accuracy for record in records] == [0.25, 0.5, 1, 1, 1]
    assert [record.plain_val_accuracy for record in records] == [None, 0.5, 0.75, 1, 1]
    assert [record.average_val_accuracy for record in records] == [None, 0.5, 1, 0.75, 1]
    kept = [not equal(judged, plain) for judged, plain in zip(saver.judged, saver.plain, strict=True)]
    assert kept == [False, False, True, False, True]  # of equal accuracies the lower loss, and of equals the weights
    assert [record.is_best for record in records] == [True, True, True, False, True]


def test_the_learning_rate_stays_what_it_is_when_averaging_begins():
    settings = {"epochs": 10, "schedule": "cosine", "warmup_epochs": 1}
    plain, held = (learning_rate_factor(OptimConfig(swa_epochs=last, **settings), 4) for last in (0, 3))
    assert [held(step) for step in range(28)] == [plain(step) for step in range(28)]
    assert {held(step) for step in range(28, 40)} == {plain(28)}


@pytest.mark.parametrize(
    "settings", [{"schedule": "cosine", "warmup_epochs": 4, "swa_epochs": 6}, {"schedule": "constant", "swa_epochs": 7}]
)
def test_weights_are_averaged_at_the_highest_rate_however_long_the_warmup_is(settings):
    factor = learning_rate_factor(OptimConfig(epochs=8, **settings), 4)
    assert {factor(step) for step in range(32 - 4 * settings["swa_epochs"], 32)} == {1.0}


def test_a_mean_of_epochs_goes_on_with_the_same_bits(tmp_path):
    def trainer_in(folder, stop_after=None):
        trainer = build_trainer(build_model(dropout=0.2), train=Batches(size=10, batch_size=4), epochs=4, swa_epochs=2)
        folder.mkdir(exist_ok=True)
        trainer.save_steps, trainer._saver = int(stop_after is not None), Disk(folder, stop_after)  # else by epoch
        return trainer

    whole = trainer_in(tmp_path / "whole")
    whole.fit()
    for at in ((3, 0), (3, 2), (4, 0), (4, 2)):
        folder = tmp_path / "cut-{}-{}".format(*at)
        cut = trainer_in(folder, at)
        with pytest.raises(Interrupted):
            cut.fit()
        again = trainer_in(folder)
        again.load_state_dict(load_state(again.saver.path))
        assert without_timings(again.state_dict()) == without_timings(cut.state_dict()), at
        again.fit()
        assert without_timings(again.state_dict()) == without_timings(whole.state_dict()), at


def test_a_trainer_that_takes_over_a_state_knows_what_was_kept(monkeypatch):
    script_validation(monkeypatch, [(1, 1.0), (1, 1.0), (1, 1.0), (1, 1.0), (4, 1.0)])
    trainer = fitted(epochs=3, swa_epochs=2)
    again = build_trainer(epochs=3, swa_epochs=2)
    again.load_state_dict(copied(trainer.state_dict()))
    assert equal(judged_weights(again.state_dict()), trainer.saver.judged[-1])
    assert not equal(judged_weights(again.state_dict()), trainer.saver.plain[-1])


def test_what_is_saved_in_the_middle_of_an_epoch_are_its_own_weights(monkeypatch):
    script_validation(monkeypatch, [(1, 1.0), (1, 1.0), (1, 1.0), (1, 1.0), (4, 1.0), (1, 1.0), (4, 1.0)])
    trainer = build_trainer(epochs=4, swa_epochs=3, lr=0.02)
    trainer._saver, trainer.save_steps = Weights(), 1
    states = []
    trainer._saver.save_step = lambda state: states.append(judged_weights(state) is state["model"])
    trainer.fit()
    assert states == [True] * 8
    assert [
        not equal(judged, plain) for judged, plain in zip(trainer.saver.judged, trainer.saver.plain, strict=True)
    ] == [
        *[False] * 2,
        *[True] * 2,
    ]


def test_more_epochs_than_were_planned_average_the_last_ones_anew():
    trainer = fitted(epochs=4, swa_epochs=2)
    longer = build_trainer(build_model(), epochs=7, swa_epochs=2, lr=0.02)
    longer._saver = Weights()
    longer.load_state_dict(copied(trainer.state_dict()))
    longer.fit()
    mean = {name: (longer.saver.plain[-1][name] + longer.saver.plain[-2][name]) / 2 for name in longer.saver.plain[-1]}
    for name, tensor in longer.average.model.state_dict().items():
        torch.testing.assert_close(tensor, mean[name], atol=1e-6, rtol=0)
    assert [record.average_val_loss is None for record in longer.records] == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"swa_epochs": 1},
        {"swa_epochs": 4},
        {"swa_epochs": -1},
        {"swa_epochs": 2, "ema": True},
        {"swa_epochs": 3, "schedule": "one-cycle"},
    ],
    ids=str,
)
def test_averages_that_make_no_sense_are_refused(settings):
    with pytest.raises(UsageError) as caught:
        TrainConfig(optim=OptimConfig(epochs=4, **settings)).check_together()
    assert caught.value.hint != UsageError.usual_hint


def test_averaging_may_begin_when_the_rate_is_highest():
    for epochs, last in ((90, 63), (170, 119), (100, 25)):
        TrainConfig(optim=OptimConfig(epochs=epochs, swa_epochs=last, schedule="one-cycle")).check_together()
    stated_settings(
        ({"optim": {"swa_epochs": 25, "schedule": "one-cycle", "ema": False}, "run": {"recipe": "cifar10"}},)
    )


def test_a_state_of_an_earlier_version_is_judged_by_its_average():
    average, weights = {"a": torch.ones(1)}, {"a": torch.zeros(1)}
    assert judged_weights({"model": weights, "average": {"model": average, "steps": 1}}) is average
    assert judged_weights({"model": weights, "average": {}}) is weights
