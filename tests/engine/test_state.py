"""Trainers that resume from a state that was written and read: to the bit as if they had never stopped."""

import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.builders.trainers import (
    BATCH,
    EPOCHS,
    OPTIMIZERS,
    SIZE,
    build_trainer,
    script_validation,
    trainer_in,
    without_timings,
)
from vitcli.core.errors import Interrupted, RunError, TrainingError
from vitcli.engine.device import seed_draws
from vitcli.engine.state import copied, load_state, save_state
from vitcli.engine.stopping import best_of

STEPS = math.ceil(SIZE / BATCH)
"""Of an epoch; the last one is smaller."""
STEPS_OF_ALL = [(epoch, step) for epoch in range(1, EPOCHS + 1) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_trainer_that_goes_on_from_any_place_ends_with_the_same_bits(tmp_path, optimizer):
    settings = {"optimizer": optimizer, "grad_accum_steps": 2, **OPTIMIZERS[optimizer]}
    whole = trainer_in(tmp_path / "whole", **settings)
    whole.fit()
    expected, places = without_timings(whole.state_dict()), whole.saver.places
    assert places == sorted([*STEPS_OF_ALL, *((epoch + 1, 0) for epoch in range(1, EPOCHS + 1))])
    number = list(OPTIMIZERS).index(optimizer)  # together they try every place, and each of them the end of an epoch
    for at in sorted({number, (number + STEPS) % len(places), places.index((2, 0))}):
        folder = tmp_path / f"cut-{at}"
        cut = trainer_in(folder, stop_after=places[at], **settings)
        with pytest.raises(Interrupted):
            cut.fit()
        torch.rand(at)  # what is drawn in between does not matter
        again = trainer_in(folder, **settings)
        again.load_state_dict(load_state(again.saver.path))
        again.fit()
        assert without_timings(again.state_dict()) == expected, places[at]
        assert cut.saver.places + again.saver.places == places


def test_a_state_is_the_same_after_it_was_written_read_and_loaded(tmp_path):
    trainer = trainer_in(tmp_path, stop_after=(2, 2), optimizer="muon")
    with pytest.raises(Interrupted):
        trainer.fit()
    state = load_state(tmp_path / "state.safetensors")
    assert without_timings(state) == without_timings(trainer.state_dict())
    again = trainer_in(tmp_path, optimizer="muon")
    again.load_state_dict(state)
    assert without_timings(again.state_dict()) == without_timings(state)


def test_saving_after_every_step_changes_nothing(tmp_path):
    saving, plain = trainer_in(tmp_path / "saving"), trainer_in(tmp_path / "plain")
    plain.save_steps = 0
    for trainer in (saving, plain):
        trainer.fit()
    assert without_timings(saving.state_dict()) == without_timings(plain.state_dict())


def test_the_state_is_saved_every_so_many_steps_of_the_whole_training(tmp_path):
    trainer = trainer_in(tmp_path)
    trainer.save_steps = 4
    trainer.fit()
    expected = [STEPS_OF_ALL[number - 1] for number in range(4, len(STEPS_OF_ALL) + 1, 4)]
    assert [place for place in trainer.saver.places if place[1]] == expected


def test_the_best_epoch_and_patience_are_those_of_all_epochs(tmp_path, monkeypatch):
    script_validation(monkeypatch, [(3, 1.0), (2, 1.0), (1, 1.0), (4, 1.0)])
    cut = trainer_in(tmp_path, stop_after=(3, 0), epochs=9, patience=2, ema=False)
    with pytest.raises(Interrupted):
        cut.fit()
    again = trainer_in(tmp_path, epochs=9, patience=2, ema=False)
    again.load_state_dict(load_state(again.saver.path))
    assert [record.epoch for record in again.fit()] == [1, 2, 3]
    assert best_of(again.records).epoch == 1


def test_a_state_without_numbers_is_not_saved():
    trainer = build_trainer(optimizer="sgd", lr=1e38, clip_grad=0)
    trainer.save_steps = 1
    with pytest.raises(TrainingError):
        trainer.fit()
    assert trainer.saver.steps == [(1, 1)]  # the loss of the second step is the first that is not a number
    assert all(tensor.isfinite().all() for tensor in trainer.saver.weights[-1].values())


def test_the_gradient_scaler_goes_on_with_its_scale(tmp_path):
    trainer, again = trainer_in(tmp_path, stop_after=(2, 3)), trainer_in(tmp_path)
    for each in (trainer, again):
        each.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
    with pytest.raises(Interrupted):
        trainer.fit()
    again.load_state_dict(load_state(again.saver.path))
    assert again.precision.scaler.state_dict() == trainer.precision.scaler.state_dict()
    assert again.precision.scaler.get_scale() == 2.0**11


def test_draws_of_a_step_are_those_of_its_seed():
    import random

    import numpy as np

    def draws(seed):
        seed_draws(seed, torch.device("cpu"))
        return random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002

    assert draws(2**62 + 3) == draws(2**62 + 3)
    assert all(one != other for one, other in zip(draws(1), draws(2), strict=True))


# files


STATE = {"epoch": 1, "nothing": {}, "a": {"b": {"c": torch.arange(3), "d": [1, 2.5, None, "x"]}}, "e": torch.ones(())}


def test_states_are_safetensors_and_json_and_nothing_else(tmp_path):
    save_state(tmp_path / "state.safetensors", STATE, before=tmp_path / "before.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
        assert set(file.keys()) == {"a/b/c", "e"}
    assert without_timings(load_state(tmp_path / "state.safetensors")) == without_timings(STATE)


def test_the_state_that_was_there_is_kept_as_the_one_before(tmp_path):
    path, before = tmp_path / "state.safetensors", tmp_path / "before.safetensors"
    for epoch in (1, 2, 3):
        save_state(path, {"epoch": epoch}, before=before)
    assert [load_state(each)["epoch"] for each in (path, before)] == [3, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_copy_does_not_change_with_what_it_was_made_from():
    state = {"model": {"weight": torch.ones(2, 3).T}, "records": []}
    copy = copied(state)
    state["model"]["weight"].zero_()
    assert copy["model"]["weight"].eq(1).all()
    assert copy["model"]["weight"].is_contiguous()


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.999])
def test_a_state_that_was_cut_is_refused(tmp_path, share):
    path = tmp_path / "state.safetensors"
    save_state(path, STATE, before=tmp_path / "before.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RunError, match="truncated"):
        load_state(path)


@pytest.mark.parametrize("metadata", [{}, {"format": "vitcli-1"}, {"format": "vitcli-state-1"}])
def test_other_files_are_refused(tmp_path, metadata):
    save_file({"a/b": torch.ones(1)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(RunError, match=r"x\.safetensors is"):
        load_state(tmp_path / "x.safetensors")
