"""Two processes that hold a shard of the model each, against one that holds all of it: the same batches, the same weights."""

from functools import partial

import pytest
import torch

from tests.builders.trainers import OPTIMIZERS, Kept
from tests.builders.two_processes import CPU, EVERYTHING, assert_alike, build_trainer, found_by_two, tensors_of
from vitcli.core.errors import Interrupted, UsageError
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.sharding import is_sharded, part_of, whole
from vitcli.engine.state import copied, load_state, save_state

SHORT = {"size": 13, "val_size": 8, "epochs": 1}
"""Two steps an epoch, of eight images and of five; validation has three batches, of which one process has one."""
TWICE = {"epochs": 2}
"""The parts are gathered to judge an epoch, and are parts again in the next one."""
CASES = {
    "adamw, parts, average, mixing": {"grad_accum_steps": 2, "ema": True, "mixup": 0.8, "augment": EVERYTHING, **TWICE},
    "muon, mean of epochs": {"optimizer": "muon", **OPTIMIZERS["muon"], "swa_epochs": 2, "epochs": 3},
    "sgd, gradient checkpointing": {"optimizer": "sgd", **OPTIMIZERS["sgd"], "part": "checkpointed"},
    "schedule-free": {"optimizer": "schedule-free", **OPTIMIZERS["schedule-free"], "warmup_epochs": 1, **TWICE},
    "adam, low rank": {"optimizer": "adam", **OPTIMIZERS["adam"], "part": "lora"},
    "frozen and unused parameters, more parts than images": {"part": "unused", "size": 9, "grad_accum_steps": 4},
}
CASES = {name: {**SHORT, **case} for name, case in CASES.items()}
RESUMED = CASES["adamw, parts, average, mixing"]
END_OF_EPOCH = 2
SCALE = 2.0**17


class Stops(Kept):
    """A saver that keeps the state in a file, and ends the training."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def save_step(self, state):
        if self.path:
            save_state(self.path, copied(state), before=self.path.with_suffix(".before"))
        raise Interrupted("enough", exit_code=1)


def stop_after(trainer, steps, path):
    trainer._saver, trainer.save_steps = Stops(path), steps
    with pytest.raises(Interrupted):
        trainer.fit()


def held_by(trainer):
    """How many numbers this process holds, and how many there are, of each kind."""
    moments = [value for _, value in tensors_of(trainer.optimizers.state_dict()) if value.ndim]
    gradients = [parameter.grad for parameter in trainer.optimizers.parameters]
    kinds = {
        "weights": list(trainer.model.parameters()),
        "average": list(trainer.average.model.parameters()),
        "gradients": gradients,
        "moments": moments,
    }
    return {
        kind: (sum(each.to_local().numel() for each in tensors), sum(each.numel() for each in tensors))
        for kind, tensors in kinds.items()
    }


def whole_blocks(model):
    """Which blocks are whole while one is computed with, filled in later on."""
    seen = set()

    def look(number):
        seen.add((number, *(not is_sharded(each.attention.qkv.weight) for each in model.blocks)))

    for number, block in enumerate(model.blocks):
        block.register_forward_pre_hook(lambda *_, number=number: look(number))
    return seen


# what each of two processes does


def train_cases(processes):
    found = {}
    for name, case in CASES.items():
        trainer = build_trainer(processes, shard=True, **case)
        if case is RESUMED:
            found["whole blocks"] = whole_blocks(trainer.model)
        trainer.fit()
        state = trainer.state_dict()
        found[name] = None if processes.rank else copied(state)
        if case is RESUMED:
            trainer._score(trainer.average.model)  # which has no backward pass
            found["held"] = held_by(trainer)
            found["kept by the second"] = all(is_sharded(each) for _, each in tensors_of(state["model"]))
    return found


def go_on(processes, folder):
    """Begin, and leave a state; then resume from that of one process, which ended before its epoch was judged."""
    stop_after(
        build_trainer(processes, shard=True, **RESUMED), 1, None if processes.rank else folder / "of-two.safetensors"
    )
    trainer = build_trainer(processes, shard=True, **RESUMED)
    trainer.load_state_dict(load_state(folder / "of-one.safetensors"))
    trainer.fit()
    state = trainer.state_dict()
    return None if processes.rank else copied(state)


def in_half_precision(processes):
    """Steps with scaled losses, of which the first ones overflow: with the whole model on each, and with parts."""
    found = []
    for shard in (False, True):
        precision = Precision(CPU, amp="on", dtype="float16")
        precision.scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
        case = {**SHORT, "optimizer": "sgd", **OPTIMIZERS["sgd"], "size": 45}
        trainer = build_trainer(processes, shard=shard, precision=precision, dtype=torch.float32, **case)
        trainer.fit()
        state = trainer.state_dict()
        found.append(None if processes.rank else copied(state))
    return found


def take_shards(processes):
    """Tensors of which the second process has little, or nothing."""
    trainer = build_trainer(processes, shard=True)
    like = dict(trainer.model.named_parameters())
    found = {}
    for name in ("class_token", "head.1.bias", "blocks.0.mlp.fc1.weight"):
        values = torch.arange(like[name].numel(), dtype=torch.float64).view(like[name].shape)
        part = part_of(values, like=like[name])
        found[name] = part.to_local().numel(), torch.equal(whole(part), values)
    return found


@pytest.fixture(scope="module")
def both(processes, tmp_path_factory):
    """What two processes found, by rank, and their folder."""
    folder = tmp_path_factory.mktemp("sharded")
    stop_after(build_trainer(Processes(), **RESUMED), END_OF_EPOCH, folder / "of-one.safetensors")
    tasks = {task.__name__: task for task in (train_cases, in_half_precision, take_shards)}
    return found_by_two(processes, folder, tasks | {"go_on": partial(go_on, folder=folder)}), folder


def outcome(**case):
    trainer = build_trainer(Processes(), **case)
    trainer.fit()
    return copied(trainer.state_dict())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_with_a_part_each_end_with_the_weights_of_one(both, name):
    assert_alike(outcome(**CASES[name]), both[0][0]["train_cases"][name])


def test_each_process_holds_about_half_of_everything(both):
    first, second = (found["train_cases"]["held"] for found in both[0])
    for kind, (held, total) in first.items():
        assert held + second[kind][0] == total == second[kind][1], kind
        assert 0.4 < held / total < 0.6, kind
    assert both[0][1]["train_cases"]["kept by the second"]


def test_a_block_is_whole_only_while_it_is_computed_with(both):
    assert both[0][0]["train_cases"]["whole blocks"] == {(0, True, False), (1, False, True)}


def test_a_state_knows_of_no_shards(both):
    expected = outcome(**RESUMED)
    state = load_state(both[1] / "of-two.safetensors")
    assert (state["epoch"], state["step"]) == (1, 1)
    one = build_trainer(Processes(), **RESUMED)
    one.load_state_dict(state)
    one.fit()
    assert_alike(expected, copied(one.state_dict()))
    assert_alike(expected, both[0][0]["go_on"])


def test_what_overflows_in_one_part_is_no_step_of_any(both):
    expected, found = both[0][0]["in_half_precision"]
    assert found["scaler"] == expected["scaler"]
    assert 1 < found["scaler"]["scale"] < SCALE
    for name, tensor in expected["model"].items():
        torch.testing.assert_close(found["model"][name], tensor, rtol=0, atol=1e-6)


def test_parts_make_a_whole(both):
    first, second = (found["take_shards"] for found in both[0])
    assert first == {"class_token": (16, True), "head.1.bias": (2, True), "blocks.0.mlp.fc1.weight": (256, True)}
    assert second["class_token"] == (0, True)


def test_one_process_has_nobody_to_share_with():
    with pytest.raises(UsageError, match="--shard") as error, joined(shard=True):
        pass
    assert "--devices" in error.value.hint
