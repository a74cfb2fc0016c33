"""Where a batch does not fit into memory, its parts are halved, and the step is as if they had been so small at once."""

import ctypes
import json
import re
import sys
from pathlib import Path

import pytest
import torch

from tests.builders.processes import exit_code
from tests.builders.trainers import (
    FLOAT32,
    Batches,
    build_model,
    build_trainer,
    device_of,
    trainer_in,
    without_timings,
)
from vitcli.core.errors import DeviceError, Interrupted, TrainingError
from vitcli.core.events import Warned
from vitcli.engine.eager import EagerAdamW
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.state import load_state
from vitcli.models.layers import Attention, ConvPatchEmbedding

pytestmark = pytest.mark.usefixtures("one_thread")


def fitted(trainer):
    """Everything that a trainer comes to."""
    trainer.fit()
    return without_timings(trainer.state_dict())


@pytest.mark.parametrize(
    ("optimizer", "layer"),
    [("sgd", ConvPatchEmbedding), ("adamw", Attention), ("muon", ConvPatchEmbedding), ("muon", Attention)],
)
def test_a_batch_that_does_not_fit_is_taken_in_halves_to_the_bit_as_if_that_were_so_from_the_start(
    tmp_path, optimizer, layer
):
    settings = {"optimizer": optimizer, "epochs": 1}
    expected = fitted(trainer_in(tmp_path / "cut", grad_accum_steps=4, **settings))
    with device_of(1, layer=layer, judging=False):  # a step has 4 images
        assert fitted(trainer_in(tmp_path / "halved", **settings)) == expected
    assert expected["micro_batches"] == 4


class Backwards(torch.autograd.Function):
    """Fails on the way back, when the gradients of later layers are there already."""

    limit = 99

    @staticmethod
    def forward(_context, tensor):
        return tensor.clone()

    @staticmethod
    def backward(_context, gradient):
        if len(gradient) > Backwards.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return gradient


def test_a_backward_pass_that_fails_leaves_no_gradients(tmp_path, monkeypatch):
    expected = fitted(trainer_in(tmp_path / "cut", epochs=1, grad_accum_steps=2))
    monkeypatch.setattr(Backwards, "limit", 2)
    trainer = trainer_in(tmp_path / "halved", epochs=1)
    trainer.model.blocks[1].register_forward_hook(lambda _module, _given, tokens: Backwards.apply(tokens))
    assert fitted(trainer) == expected


def test_parts_that_fitted_before_the_memory_was_gone_are_taken_again(tmp_path):
    expected = fitted(trainer_in(tmp_path / "cut", epochs=1, grad_accum_steps=4))
    trainer = trainer_in(tmp_path / "halved", epochs=1, grad_accum_steps=2)
    with device_of(1, after=1, judging=False):  # the second part of the first step is the first that does not fit
        assert fitted(trainer) == expected


def test_it_is_said_once_and_the_step_stays_the_same():
    events = []
    trainer = build_trainer(events=events, train=Batches(size=20, batch_size=8))
    with device_of(2):
        records = trainer.fit()
    training, judging = (event.text for event in events if isinstance(event, Warned))
    assert training == (
        "not enough memory for 8 images at once: from here on 2; batch size and learning rate stay the same"
    )
    assert judging == "not enough memory for 8 images at once: from here on 2"
    assert [record.learning_rate for record in records] == [trainer.config.peak_lr] * 2
    assert trainer._steps_done == 6


def test_parts_that_are_not_those_that_the_model_is_compiled_for_are_said_to_be():
    events, shapes = [], []
    model = build_model()

    def forward(images):
        shapes.append(len(images))
        return model(images)

    trainer = build_trainer(model, events=events, forward=forward, epochs=1)
    with device_of(2, judging=False):
        trainer.fit()
    (said,) = [event.text for event in events if isinstance(event, Warned) and "memory" in event.text]
    assert said.endswith("but this size is not compiled: Ctrl-C, then --resume compiles it")


def test_who_goes_on_from_a_state_does_not_try_more_again(tmp_path):
    with device_of(2, judging=False):
        expected = fitted(trainer_in(tmp_path / "whole"))
        cut = trainer_in(tmp_path / "cut", stop_after=(2, 2))
        with pytest.raises(Interrupted):
            cut.fit()
    events = []
    again = trainer_in(tmp_path / "cut")
    again.micro_batches._emit = events.append
    again.load_state_dict(load_state(again.saver.path))
    with device_of(2, judging=False):
        assert fitted(again) == expected
    assert not events


def test_states_that_are_older_than_this_have_parts_as_configured(tmp_path):
    trainer = trainer_in(tmp_path, grad_accum_steps=2)
    state = trainer.state_dict()
    del state["micro_batches"]
    trainer.load_state_dict(state)
    assert trainer.micro_batches.count == 2


def test_memory_for_less_than_an_image_ends_training_with_what_to_do():
    with device_of(0), pytest.raises(TrainingError, match="not enough memory for a single image") as refusal:
        build_trainer().fit()
    assert "--grad-checkpointing" in refusal.value.hint


def test_no_room_for_moments_ends_training_with_what_to_do(monkeypatch):
    trainer = build_trainer()

    def full(*_arguments, **_options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(EagerAdamW, "step", full)
    with pytest.raises(TrainingError, match="moments") as refusal:
        trainer.fit()
    assert "sgd" in refusal.value.hint


def test_other_errors_are_what_they_are():
    def wrong(_part):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        MicroBatches(1, emit=lambda event: None).fitted(wrong, 8)


@pytest.mark.parametrize(("images", "count"), [(8, 1), (7, 1), (5, 2), (1, 1), (3, 4), (100, 3)])
def test_parts_get_smaller_until_they_are_single_images(images, count):
    tried = []

    def compute(parts):
        tried.append(parts[0].stop)
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceError):
        MicroBatches(count, emit=lambda event: None).fitted(compute, images)
    assert tried[0] == -(-images // count)
    assert tried[-1] == 1
    assert all(later == -(-images // (count * 2**at)) < tried[at - 1] for at, later in enumerate(tried) if at)


@pytest.mark.parametrize(("images", "count"), [(8, 1), (7, 2), (5, 4), (1, 3), (0, 2), (100, 3)])
def test_parts_are_the_whole_batch_and_several_processes_take_equally_many(images, count):
    alone, together = (
        MicroBatches(count, emit=lambda event: None, together=together).fitted(lambda parts: parts, images)
        for together in (False, True)
    )
    for parts in (alone, together):
        assert [at for part in parts for at in range(images)[part]] == list(range(images))
    assert len(together) == count
    assert all(range(images)[part] for part in alone) or not images


# judging


def test_images_that_do_not_fit_are_judged_in_parts():
    model, batches = build_model(), Batches(size=22, batch_size=8)
    expected, labels = predict_logits(model, batches, FLOAT32)
    events, counts = [], []
    with device_of(3):
        found = predict_logits(
            model, batches, FLOAT32, counts.append, micro_batches=MicroBatches(1, emit=events.append)
        )
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=0)
    assert torch.equal(found[1], labels)
    assert counts == [8, 8, 6]
    assert len(events) == 1


def test_memory_for_less_than_an_image_judges_nothing():
    model = build_model()
    with device_of(0), pytest.raises(DeviceError, match="a single image"):
        predict_logits(model.train(), Batches(), FLOAT32)
    assert model.training


# real memory


def train_with_little_memory(answer):
    """Write into a file how many micro-batches there had to be, whether the weights are theirs, and what was said."""
    import resource

    ctypes.CDLL(None).mallopt(-3, 65536)  # M_MMAP_THRESHOLD: what is freed is free, not kept in pieces

    def trainer(size, parts, events=None):
        model = build_model(depth=4, width=32, mlp_width=128, patch_size=(1, 1), dropout=0.1)
        batches = Batches(size=size, batch_size=size)
        settings = {"grad_accum_steps": parts, "epochs": 1, "optimizer": "sgd"}
        val = [(batches.images[:2], batches.labels[:2])]
        return build_trainer(model, train=batches, val=val, events=events, **settings)

    trainer(16, 1).fit()  # loads libraries, and starts threads
    events = []
    tight = trainer(256, 1, events)
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = int(facts["VmSize"].split()[0]) * 1024
    unlimited = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20, unlimited[1]))
    tight.fit()
    resource.setrlimit(resource.RLIMIT_AS, unlimited)
    plain = trainer(256, tight.micro_batches.count)
    plain.fit()
    same = all(map(torch.equal, tight.model.parameters(), plain.model.parameters()))
    said = [event.text for event in events if isinstance(event, Warned)]
    answer.write_text(json.dumps([tight.micro_batches.count, same, said]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process so")
def test_a_process_whose_memory_is_limited_trains_to_the_same_bits(processes, tmp_path):
    process = processes.Process(target=train_with_little_memory, args=(tmp_path / "answer.json",))
    assert exit_code(process) == 0
    count, same, said = json.loads((tmp_path / "answer.json").read_text())
    said = [text for text in said if "memory" in text]
    assert count > 1
    assert same
    assert len(said) == 1
    assert re.match(rf"not enough memory for 256 images at once: from here on {-(-256 // count):,};", said[0])
