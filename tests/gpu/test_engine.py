"""The engine on a GPU: the same steps as on a CPU, without waiting, in less memory, and by other ways of computing."""

import pytest
import torch
from torch import distributed as dist
from torch._dynamo.utils import counters

from tests.gpu.trainers import (
    BATCH,
    CROPS,
    EVERYTHING,
    TURNS,
    Stops,
    build_batches,
    build_model,
    build_trainer,
    input_transform,
    noise,
)
from vitcli.core.errors import Interrupted
from vitcli.core.events import Warned, ignore
from vitcli.data import loader
from vitcli.data.augment import TrainTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import compiled
from vitcli.engine.device import has_bfloat16, seed_everything
from vitcli.engine.micro_batch_size import micro_batches_that_fit
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.muon import orthogonalise
from vitcli.engine.state import load_state
from vitcli.engine.timing import clearly_faster, seconds_per_image

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]
CPU = torch.device("cpu")


def weights_of(trainer):
    return {name: tensor.detach().cpu() for name, tensor in trainer.state_dict()["model"].items()}


def assert_close(found, expected, *, atol=1e-4):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, atol=atol, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def trained(device, **options):
    trainer = build_trainer(device, **options)
    trainer.fit()
    return weights_of(trainer)


# the same as on a CPU


def test_logits_are_those_of_the_cpu(device):
    model, images = build_model(CPU).eval(), torch.randn(4, 3, 8, 8)
    expected = model(images)
    torch.testing.assert_close(model.to(device)(images.to(device)).cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("augment", [CROPS, TURNS, EVERYTHING], ids=["crops", "turns", "everything"])
def test_augmentation_is_that_of_the_cpu(device, augment):
    images = noise(64, 3, 24, 32)
    batches = [
        TrainTransform(augment, input_transform(place, (20, 20)))(images.to(place), torch.Generator().manual_seed(0))
        for place in (CPU, device)
    ]
    difference = (batches[0] - batches[1].cpu()).abs()
    if augment is CROPS:
        assert difference.max() < 1e-3
    assert (difference > 0.1).float().mean() < 0.01  # one grey level is up to 0.04, and may be stretched


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedule-free"])
def test_a_few_steps_lead_where_those_of_the_cpu_do(device, optimizer):
    options = {"optimizer": optimizer, "lr": 1e-3, "epochs": 1, "ema": optimizer != "schedule-free"}
    atol = 1e-4 if optimizer == "sgd" else 5e-3  # Adam takes steps of the same length for the least of gradients
    assert_close(trained(device, **options), trained(CPU, **options), atol=atol)


def test_muon_finds_the_directions_of_the_cpu(device):
    matrices = torch.randn(3, 64, 32, generator=torch.Generator().manual_seed(0))
    found, expected = orthogonalise(matrices.to(device)).cpu(), orthogonalise(matrices)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)  # bfloat16 has three digits
    values = torch.linalg.svdvals(found)
    assert 0.6 < values.min() < values.max() < 1.3


# without waiting


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("optimizer", ["adamw", "muon", "schedule-free"])
@pytest.mark.parametrize("augment", [CROPS, TURNS, EVERYTHING], ids=["crops", "turns", "everything"])
def test_no_step_waits_for_the_gpu(device, optimizer, augment):
    options = {"augment": augment, "mix": 0.8, "ema": optimizer != "schedule-free"}
    trainer = build_trainer(device, optimizer=optimizer, **options)
    batches = trainer.train.epoch(1)
    trainer.take_step(*next(batches))
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            trainer.take_step(*next(batches))
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def test_images_are_stored_on_the_device(device):
    batches = build_batches(device)
    assert batches.images.device.type == batches.labels.device.type == device.type


def test_images_that_do_not_fit_on_the_device_make_the_same_batches(device, monkeypatch):
    expected = list(build_batches(device, augment=CROPS).epoch(1))
    monkeypatch.setattr(loader, "_FITS_DEVICE", 0)
    monkeypatch.setattr(loader, "_AT_HAND", 0)
    batches = build_batches(device, augment=CROPS)
    assert batches.images.device == CPU
    for (images, labels), (ours, theirs) in zip(batches.epoch(1), expected, strict=True):
        torch.testing.assert_close((images, labels), (ours, theirs), atol=0, rtol=0)


# precision


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_learns_in_mixed_precision(device, dtype):
    precision = Precision(device, amp="on", dtype=dtype)
    assert precision.scaler.is_enabled() is (dtype == "float16")
    records = build_trainer(device, precision=precision, augment=None, epochs=40, lr=0.003).fit()
    assert records[-1].train_loss < 0.5 * records[0].train_loss


def test_float16_that_overflows_changes_nothing_and_lowers_the_scale(device):
    precision = Precision(device, amp="on", dtype="float16")
    precision.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    trainer = build_trainer(device, precision=precision)
    before = {name: tensor.clone() for name, tensor in weights_of(trainer).items()}
    trainer.take_step(*next(iter(trainer.train.epoch(1))))
    assert_close(weights_of(trainer), before, atol=0)
    assert precision.scaler.get_scale() == 2.0**39


def test_a_large_model_computes_in_bfloat16_and_random_numbers_stay(gpu):
    if not has_bfloat16(gpu):
        pytest.skip("this GPU emulates bfloat16")
    shape = {"image_size": (224, 224), "patch_size": (16, 16), "width": 768, "mlp_width": 3072, "num_heads": 12}
    model = build_model(gpu, **shape)
    before = torch.cuda.get_rng_state(gpu)
    for work in ("training", "inference"):
        options = {"dtype": "bfloat16", "image_shape": (3, 224, 224), "most_images": 64}
        assert clearly_faster(seconds_per_image(model, work=work, **options)) == "bfloat16"
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)


# other ways of computing


def test_a_compiled_model_takes_the_same_steps_and_is_compiled_before_the_first(device):
    torch.compiler.reset()
    counters.clear()
    model = build_model(device)
    options = {"backend": "eager"} if device.type == "cpu" else {}
    micro_batches, example = MicroBatches(1, emit=ignore), torch.zeros(BATCH, 3, 8, 8, device=device)
    precision = Precision(device, amp="on", dtype="bfloat16")
    forward = compiled(model, [example], precision, micro_batches=micro_batches, required=True, emit=ignore, **options)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    settings = {"precision": precision, "optimizer": "sgd", "lr": 0.01, "mix": 0.8}
    found = trained(device, model=model, forward=forward, **settings)
    assert counters["stats"]["unique_graphs"] == graphs
    assert_close(found, trained(device, **settings), atol=1e-2)


def test_recomputed_blocks_take_the_same_steps_in_less_memory(device):
    peaks, weights = [], []
    for recomputes in (False, True):
        model = build_model(device, depth=6, patch_size=(1, 1), dropout=0.1)
        model.grad_checkpointing = recomputes
        size = 512 if device.type == "cuda" else BATCH
        trainer = build_trainer(device, model=model, size=size, batch_size=size, epochs=1, optimizer="sgd")
        peaks.append(trainer.fit()[0].peak_memory)
        weights.append(weights_of(trainer))
    assert_close(*weights)
    assert device.type == "cpu" or peaks[1] < 0.7 * peaks[0]


def test_parts_take_the_same_steps(device):
    whole, parts = (trained(device, grad_accum_steps=count, optimizer="sgd", lr=0.01) for count in (1, 3))
    assert_close(parts, whole)


# memory


def large_trainer(device, **options):
    """A step of it keeps more than 10 GiB on a GPU; on a CPU it is small."""
    size = 4096 if device.type == "cuda" else BATCH
    model = build_model(device, width=256, depth=6, patch_size=(1, 1))
    return build_trainer(device, model=model, size=size, batch_size=size, epochs=1, **options)


def test_a_batch_that_does_not_fit_is_halved(device, memory_for):
    events = []
    trainer = large_trainer(device, emit=events.append)
    with memory_for(1024):
        trainer.fit()
    assert trainer.micro_batches.count > 1
    (said,) = [event.text for event in events if isinstance(event, Warned) and "memory" in event.text]
    assert "batch size and learning rate stay the same" in said


def test_parts_that_fit_are_found_before_training(device, memory_for):
    trainer = large_trainer(device)
    with memory_for(1024):
        assert micro_batches_that_fit(trainer) > 1


# states


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "schedule-free"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_training_that_is_resumed_within_an_epoch_ends_with_the_same_bits(device, tmp_path, optimizer, dtype):
    def trainer(name, stop_after=None):
        seed_everything(0, deterministic=True)
        return build_trainer(
            device,
            model=build_model(device, dropout=0.2, drop_path=0.3),
            augment=TURNS,
            mix=0.8,
            precision=Precision(device, amp="off" if dtype == "float32" else "on", dtype=dtype),
            saver=Stops(tmp_path / f"{name}.safetensors", stop_after),
            optimizer=optimizer,
            ema=optimizer != "schedule-free",
        )

    whole, cut = trainer("whole"), trainer("cut", stop_after=(1, 3))
    whole.fit()
    with pytest.raises(Interrupted):
        cut.fit()
    resumed = trainer("resumed")
    resumed.load_state_dict(load_state(tmp_path / "cut.safetensors"))
    resumed.fit()
    assert_close(weights_of(resumed), weights_of(whole), atol=0)
    assert resumed.precision.scaler.state_dict() == whole.precision.scaler.state_dict()


# several processes, of which there is one


@pytest.fixture
def group(device):
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("settings", [{"optimizer": "muon", "ema": True}, {"optimizer": "sgd", "grad_accum_steps": 2}])
def test_a_sharded_model_takes_the_same_steps(device, settings):
    whole, sharded = (trained(device, shard=shard, mix=0.8, **settings) for shard in (False, True))
    assert_close(sharded, whole, atol=5e-3 if settings["optimizer"] == "muon" else 1e-4)  # in bfloat16


@pytest.mark.usefixtures("group")
def test_a_sharded_model_learns_in_mixed_precision(device):
    precision = Precision(device, amp="on", dtype="bfloat16")
    records = build_trainer(device, precision=precision, shard=True, augment=None, epochs=40, lr=0.003).fit()
    assert records[-1].train_loss < 0.5 * records[0].train_loss


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_that_are_exchanged_take_the_same_steps(device, parts):
    settings = {"grad_accum_steps": parts, "optimizer": "sgd", "lr": 0.01}
    trainer = build_trainer(device, **settings)
    trainer.stepper.forward._is_called_as_it_is = False  # as with several processes
    trainer.fit()
    assert trainer.stepper.forward._parallel is not None
    assert_close(weights_of(trainer), trained(device, **settings))
