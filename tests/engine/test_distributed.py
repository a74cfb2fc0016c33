"""Two processes that train together, against one that trains alone: the same batches give the same weights.

Most is computed in float64. In float32 Adam makes steps of gradients that are nothing but rounding, such as those of the
bias of the keys, which softmax does not see; these steps are as large as any, and of another sign with every order of sums.
One process that takes the two shares of a batch as its parts has the same sums, and so the same bits.
"""

import faulthandler
import os
import socket
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import torch
from torch import nn

from tests.engine.test_trainer import OPTIMIZERS, Kept, build_model
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import OptimConfig
from vitcli.core.errors import EndedElsewhere, Interrupted, TrainingError, UsageError
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.shares import share_of
from vitcli.engine import trainer as trainer_module
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.evaluate import predict_logits, score
from vitcli.engine.mixing import Mixing
from vitcli.engine.state import copied, load_state, save_state
from vitcli.engine.trainer import Trainer
from vitcli.models.finetune import HeadOnly, add_low_rank, train_only

CPU = torch.device("cpu")
SIZE, BATCH, CLASSES = 37, 8, 4
"""The last batch has five images, and the last part of it one or none."""
EVERYTHING = AugmentConfig(
    crop_padding=1,
    flip=0.5,
    rotate=20,
    policy="trivial",
    brightness=0.3,
    saturation=0.3,
    grey=0.2,
    erase=0.7,
)
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


class WithUnused(nn.Module):
    """Some of its parameters have no say."""

    def __init__(self, model):
        super().__init__()
        self.model, self.unused = model, nn.Linear(3, 3)
        self.no_decay, self.layer_of, self.is_head = model.no_decay, lambda name: 0, lambda name: False

    def forward(self, images):
        return self.model(images)


class HeadOnImages(HeadOnly):
    """A head that is trained on features computed in every step."""

    def __init__(self, model):
        super().__init__(model)
        self._features = model.features

    def forward(self, images):
        return super().forward(self._features(images))


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


def batches(place, *, augment=None, size=SIZE, balanced=False, val=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(256, (size, 3, 8, 8), generator=generator, dtype=torch.uint8)
    to_input = InputTransform(
        Preprocessing(
            geometry=Geometry(size=(8, 8), channels=3, resize="squash"), image_size=(8, 8), mean=(0.5,), std=(0.5,)
        ),
        CPU,
    )
    change = to_input if val else TrainTransform(augment or AugmentConfig(), to_input)
    return Batches(
        images,
        torch.arange(size) % CLASSES,
        batch_size=3 if val else BATCH,
        transform=lambda *batch: change(*batch).to(dtype),
        device=CPU,
        seed=3,
        balanced=balanced,
        place=place,
    )


def build_trainer(
    processes,
    *,
    part="",
    augment=None,
    size=SIZE,
    balanced=False,
    mixup=0.0,
    cutmix=0.0,
    class_weights=None,
    stop=None,
    epochs=2,
    shard=False,
    precision=None,
    dtype=torch.float64,
    val_size=SIZE,
    **settings,
):
    place = processes.place
    model = build_model(in_channels=3, num_classes=CLASSES).to(dtype)
    forward = None
    if part == "lora":
        add_low_rank(model.float(), 2)
    elif part == "norm":
        train_only(model, "norm")
    elif part == "head-only":
        train_only(model, "head")
        model = HeadOnImages(model)
    elif part == "checkpointed":
        model.grad_checkpointing = True
    elif part == "unused":
        model = WithUnused(model)
    elif part == "called":
        forward = partial(type(model).forward, model)
    settings = {"optimizer": "adamw", "lr": 0.01, "schedule": "cosine", "warmup_epochs": 1, **settings}
    return Trainer(
        model.to(dtype),
        train=batches(place, augment=augment, size=size, balanced=balanced, dtype=dtype),
        val=batches(place, val=True, size=val_size, dtype=dtype),
        config=OptimConfig(epochs=epochs, batch_size=BATCH, clip_grad=1.0, **settings),
        mixing=Mixing(mixup=mixup, cutmix=cutmix, seed=5),
        precision=precision or Precision(CPU, amp="off", dtype="bfloat16"),
        saver=Kept(),
        emit=lambda event: None,
        stop=processes.agreed(StopRequest() if stop is None else stop),
        seed=0,
        class_weights=None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64),
        forward=forward,
        processes=processes,
        shard=shard,
    )


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
        if processes.rank == 1 and len(steps) == 3:
            stop.receive(15, None)

    trainer.take_step = step
    try:
        trainer.fit()
    except Interrupted as error:
        return error.exit_code, trainer.saver.steps
    raise AssertionError


def lose_the_loss(processes):
    """One process alone has an image that is not a number."""
    trainer_module._REPORT_SECONDS = float("inf")  # after the epoch; in the middle of it the first process looks alone
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

    trainer._saver, trainer.save_steps = Stops(), 3
    try:
        trainer.fit()
    except Interrupted:
        return
    raise AssertionError


def one_of_two(rank, port, folder, tasks):
    """A process that does its tasks, and leaves what it found."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1"
    )
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(100, exit=True)
    with joined() as processes:
        found = {name: task(processes) for name, task in tasks.items()}
    torch.save(found, folder / f"{rank}.pt")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def found_by_two(context, folder, tasks):
    """What two processes found, by rank."""
    port = free_port()
    processes = [context.Process(target=one_of_two, args=(rank, port, folder, tasks)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def both(processes, tmp_path_factory):
    """What two processes found, by rank, and their folder."""
    folder = tmp_path_factory.mktemp("both")
    tasks = {
        task.__name__: task
        for task in (train_cases, train_in_float32, sum_up, remember, stop_one, lose_the_loss, fail_in_turn)
    } | {"go_on": partial(go_on, folder=folder)}
    return found_by_two(processes, folder, tasks), folder


def tensors_of(state, above=""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from tensors_of(value, f"{above}{name}.")
        elif isinstance(value, torch.Tensor):
            yield f"{above}{name}", value


def assert_alike(one, two):
    expected, found = dict(tensors_of(one)), dict(tensors_of(two))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    for ours, theirs in zip(one["records"], two["records"], strict=True):
        for name in (
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "learning_rate",
            "is_best",
            "grad_norm",
        ):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-9), name


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
    assert first[1][0] in {(1, 3), (1, 4)}


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
    assert (state["epoch"], state["step"]) == (1, 3)
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
