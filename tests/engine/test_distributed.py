"""Two processes that train together, against one that trains alone: the same batches give the same weights.

Most is computed in float64. In float32 Adam makes steps of gradients that are nothing but rounding, such as those of the
bias of the keys, which softmax does not see; these steps are as large as any, and of another sign with every order of sums.
One process that takes the two shares of a batch as its parts has the same sums, and so the same bits.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import torch

from tests.builders.trainers import OPTIMIZERS, Kept, build_model
from tests.builders.two_processes import (
    CPU,
    EVERYTHING,
    SIZE,
    assert_alike,
    batches,
    build_trainer,
    found_by_two,
    tensors_of,
)
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.errors import EndedElsewhere, Interrupted, TrainingError, UsageError
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place
from vitcli.data.shares import share_of
from vitcli.engine import epoch_loop
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.evaluate import predict_logits, score
from vitcli.engine.state import copied, load_state, save_state

CROPS = AugmentConfig(crop_scale=0.3, policy="rand", erase=0.9)
CASES = {
    "muon": {"optimizer": "muon", **OPTIMIZERS["muon"]},
    "adam": {"optimizer": "adam", **OPTIMIZERS["adam"]},
    "sgd, crops": {"optimizer": "sgd", **OPTIMIZERS["sgd"], "augment": CROPS},
    "schedule-free": {"optimizer": "schedule-free", **OPTIMIZERS["schedule-free"]},
    "augmentation, mixing, average": {"augment": EVERYTHING, "mixup": 0.8, "cutmix": 1.0, "ema": True},
    "parts": {"grad_accum_steps": 3, "mixup": 0.8, "augment": EVERYTHING},
    "class weights, balanced": {"class_weights": (0.2, 1.0, 3.0, 0.5), "balanced": True, "label_smoothing": 0.1},
    "low rank": {"part": "lora"},
    "norms": {"part": "norm"},
    "head alone": {"part": "head-only"},
    "unused parameters": {"part": "unused"},
    "called another way": {"part": "called", "grad_accum_steps": 2},
    "few images": {"size": 9, "mixup": 0.8},
    "one image in the last batch": {"size": 17, "cutmix": 1.0, "augment": EVERYTHING},
}


class InShares:
    """Batches in the order of two processes' shares."""

    def __init__(self, batches):
        self._batches = batches
        self.num_images, self.batch_size = batches.num_images, batches.batch_size

    def __len__(self):
        return len(self._batches)

    def epoch(self, number, *, start=0):
        for images, labels in self._batches.epoch(number, start=start):
            order = torch.cat([share_of(len(images), Place(rank, 2)).members for rank in (0, 1)])
            yield images[order], labels[order]


def outcome(processes, **case):
    trainer = build_trainer(processes, **case)
    trainer.fit()
    return copied(trainer.state_dict())


# what each of two processes does; it returns what the tests look at


def train_cases(processes):
    return {name: outcome(processes, **case) for name, case in CASES.items()}


def train_in_float32(processes):
    return {optimizer: float32_trainer(processes, optimizer) for optimizer in OPTIMIZERS}


def float32_trainer(processes, optimizer, *, parts=1):
    """Its weights after two epochs; one process takes the parts that two have as shares."""
    trainer = build_trainer(
        processes, optimizer=optimizer, **OPTIMIZERS[optimizer], grad_accum_steps=parts, size=16, dtype=torch.float32
    )
    if parts > 1:
        trainer.train = InShares(trainer.train)
    trainer.fit()
    return copied(trainer.model.state_dict())


def sum_up(processes):
    rank = processes.rank
    model = build_model(in_channels=3).double()
    logits, labels = predict_logits(model, batches(processes.place, val=True), Precision(CPU, amp="off", dtype=""))
    none = predict_logits(model, batches(processes.place, val=True, size=2), Precision(CPU, amp="off", dtype=""))
    return {
        "sum": processes.sum(torch.tensor(1.5 + rank), torch.tensor(rank)),
        "word": processes.broadcast({"from": rank}),
        "turns": processes.in_turn(lambda: rank),
        "judged": score(logits, labels, processes),
        "images": len(labels),
        "few": (len(none[1]), score(*none, processes)),
    }


def remember(processes):
    before = processes.begun_run
    if not processes.rank:
        processes.remember("a run")
    ends = [processes.first_ends(patience=timedelta(seconds=0.2)) for _ in range(processes.rank)]
    return before, processes.begun_run, ends


def stop_one(processes):
    """A signal comes to the second process alone."""
    stop = StopRequest()
    trainer = build_trainer(processes, epochs=50, stop=stop)
    take, steps = trainer.take_step, []

    def step(*batch):
        take(*batch)
        steps.append(trainer.step)
        if processes.rank == 1 and len(steps) == 1:
            stop.receive(15, None)

    trainer.take_step = step
    try:
        trainer.fit()
    except Interrupted as error:
        return error.exit_code, trainer.saver.steps
    raise AssertionError


def lose_the_loss(processes):
    """One process alone has an image that is not a number."""
    epoch_loop._REPORT_SECONDS = float("inf")  # after the epoch; in the middle of it the first process looks alone
    trainer = build_trainer(processes)
    if processes.rank == 1:
        change = trainer.train._transform
        trainer.train._transform = lambda *batch: change(*batch) * float("nan")
    try:
        trainer.fit()
    except TrainingError as error:
        return error.message
    raise AssertionError


def fail_in_turn(processes):
    def fail():
        raise UsageError("no", hint="try")

    said = []
    for rank in (0, 1):
        try:
            processes.in_turn(fail if processes.rank == rank else lambda: None)
        except (EndedElsewhere, UsageError) as error:
            said.append((type(error).__name__, error.message, error.hint))
    return said


def go_on(processes, folder):
    """A state of two processes, saved in mid-epoch."""
    trainer = build_trainer(processes, **CASES["augmentation, mixing, average"])

    class Stops(Kept):
        def save_step(self, state):
            if not processes.rank:
                save_state(folder / "state.safetensors", copied(state), before=folder / "before.safetensors")
            raise Interrupted("enough", exit_code=1)

    trainer._saver, trainer.save_steps = Stops(), 2
    try:
        trainer.fit()
    except Interrupted:
        return
    raise AssertionError


@pytest.fixture(scope="module")
def both(processes, tmp_path_factory):
    """What two processes found, by rank, and their folder."""
    folder = tmp_path_factory.mktemp("both")
    tasks = {
        task.__name__: task
        for task in (train_cases, train_in_float32, sum_up, remember, stop_one, lose_the_loss, fail_in_turn)
    } | {"go_on": partial(go_on, folder=folder)}
    return found_by_two(processes, folder, tasks), folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_end_with_the_weights_of_one(both, name):
    first, second = (found["train_cases"][name] for found in both[0])
    assert_alike(outcome(Processes(), **CASES[name]), first)
    for key, tensor in tensors_of(first):  # both take the same steps, to the bit
        assert torch.equal(tensor, dict(tensors_of(second))[key]), key


@pytest.fixture
def _one_thread():
    """As in each of the two processes: two threads add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_shares_of_two_processes_give_the_bits_of_two_parts(both, optimizer):
    alone = float32_trainer(Processes(), optimizer, parts=2)
    for found in both[0]:
        weights = found["train_in_float32"][optimizer]
        assert [name for name, tensor in alone.items() if not torch.equal(weights[name], tensor)] == []


def test_every_image_is_judged_once(both):
    first, second = (found["sum_up"] for found in both[0])
    alone = predict_logits(
        build_model(in_channels=3).double(), batches(ALONE, val=True), Precision(CPU, amp="off", dtype="")
    )
    expected = score(*alone, Processes())
    assert first["images"] + second["images"] == SIZE
    assert min(first["images"], second["images"]) > SIZE // 3
    assert first["judged"] == second["judged"] == replace(expected, loss=pytest.approx(expected.loss, rel=1e-12))
    assert (first["few"][0], second["few"][0]) == (2, 0)
    assert first["few"][1] == second["few"][1]


def test_numbers_are_added_up_and_words_are_the_first_ones(both):
    for rank, found in enumerate(both[0]):
        assert [each.item() for each in found["sum_up"]["sum"]] == [4.0, 1]
        assert (found["sum_up"]["word"], found["sum_up"]["turns"]) == ({"from": 0}, rank)


def test_a_launch_remembers_its_run_and_an_error_of_one_process_is_its_own_to_tell(both):
    assert [found["remember"] for found in both[0]] == [("", "a run", []), ("", "a run", [False])]


def test_a_signal_to_one_process_stops_both_after_the_same_step(both):
    first, second = (found["stop_one"] for found in both[0])
    assert first == second
    assert first[0] == 128 + 15
    assert len(first[1]) == 1
    assert first[1][0] in {(1, 1), (1, 2)}


def test_a_loss_that_is_no_number_ends_both_with_the_same_words(both):
    first, second = (found["lose_the_loss"] for found in both[0])
    assert "the loss became nan in epoch 1" in first
    assert "the loss became nan in epoch 1" in second


def test_what_one_process_cannot_do_ends_the_others_and_the_first_tells(both):
    first, second = (found["fail_in_turn"] for found in both[0])
    assert first == [("UsageError", "no", "try"), ("EndedElsewhere", "process 1: no", "try")]
    assert second == [("EndedElsewhere", "process 0: no", "try"), ("EndedElsewhere", "process 1: no", "try")]


def test_one_process_goes_on_from_a_state_of_two(both):
    case = CASES["augmentation, mixing, average"]
    state = load_state(both[1] / "state.safetensors")
    assert (state["epoch"], state["step"]) == (1, 2)
    trainer = build_trainer(Processes(), **case)
    trainer.load_state_dict(state)
    trainer.fit()
    assert_alike(outcome(Processes(), **case), copied(trainer.state_dict()))


def test_one_process_needs_no_launcher():
    with joined() as processes:
        assert (processes.rank, processes.size) == (0, 1)
    with pytest.raises(UsageError, match="devices = 4") as error, joined(4):
        pass
    assert "torchrun --nproc-per-node 4" in error.value.hint
