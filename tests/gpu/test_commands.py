"""The command line on a GPU: training of every kind, what is done with a model afterwards, and runs that are resumed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.builders.runs import TINY, Listener, Stopped
from vitcli.attention.registry import METHODS
from vitcli.core.events import ignore
from vitcli.core.runs import Run
from vitcli.trained.loading import load_model
from vitcli.trained.precision import choose_precision
from vitcli.workflows.attention_api import attention_map
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("device")]
Trained = Callable[..., Run]
EXACT = ("--amp", "off", "--compile", "off")
CHANGES = (
    *("--mixup", "0.8", "--cutmix", "1", "--set", "augment.crop_padding=1", "--set", "augment.flip=0.5"),
    *("--set", "augment.policy=trivial", "--set", "augment.brightness=0.3", "--set", "augment.erase=0.5"),
)
KINDS = {
    "muon": ("--opt", "muon"),
    "adamw, average": ("--opt", "adamw", "--ema", "--clip-grad", "0.5"),
    "schedule-free": ("--opt", "schedule-free", "--sched", "constant"),
    "sgd, weights of classes": ("--opt", "sgd", "--class-weights", "balanced", "--balanced-sampling"),
    "changed images": CHANGES,
    "streamed images": ("--cache", "off"),
    "growing images": ("--progressive", "0.5", "--set", "model.patch_size=[2,2]"),
    "recomputed blocks": ("--grad-checkpointing",),
    "parts": ("--grad-accum-steps", "3"),
    "low rank": ("--init-from", "{base}", "--lora", "2"),
    "frozen backbone": ("--init-from", "{base}", "--freeze-backbone"),
    "teacher": ("--teacher", "{base}"),
}


@pytest.fixture(scope="module")
def trained(run_cli, tiny, device, data_dir, tmp_path_factory) -> Trained:
    """``trained(NAME, WORDS, on=DEVICE)``: a run of two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    where = ("--output-dir", folder, "--data-dir", data_dir)

    def train(name, *words, on=device):
        outcome = run_cli("train", *words, *where, "--device", on, "--name", name)
        assert outcome.code == 0, outcome.err
        return Run(folder / name)

    return lambda name, dataset, *words, **on: train(name, dataset, *tiny, "--epochs", "2", *words, **on)


@pytest.fixture(scope="module")
def digits_run(trained) -> Run:
    return trained("digits", "digits", "--epochs", "6")


@pytest.fixture(scope="module")
def base(trained, shapes) -> Run:
    return trained("base", shapes, on="cpu")


def test_training_learns_and_says_where(digits_run, device):
    assert digits_run.status == "finished"
    assert digits_run.info["device"] == str(device)
    assert digits_run.metrics["best"]["val_accuracy"] > 0.3
    assert all(epoch["peak_memory"] > 0 for epoch in digits_run.metrics["epochs"])
    assert device.type == "cpu" or digits_run.info["hardware"]["gpus"]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_every_kind_of_training_comes_to_what_a_cpu_comes_to(trained, shapes, base, device, options, request):
    words = [word.format(base=base.path) for word in options]
    name = request.node.callspec.id.replace(",", "").replace(" ", "-")
    here, there = (
        trained(f"{name}-{number}", shapes, "--batch-size", "4", *EXACT, *words, on=place).metrics["epochs"]
        for number, place in enumerate((device, "cpu"))
    )
    for found, expected in zip(here, there, strict=True):
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=0.02)
        assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=0.05)


@pytest.mark.parametrize(("dtype", "compiles"), [("bfloat16", "off"), ("float16", "off"), ("bfloat16", "on")])
def test_training_in_mixed_precision(trained, device, dtype, compiles):
    if compiles == "on" and device.type == "cpu":
        pytest.skip("a rehearsal on a CPU leaves out compiling, which is slow there")
    words = ("--epochs", "6", "--amp", "on", "--amp-dtype", dtype, "--compile", compiles)
    run = trained(f"{dtype}-{compiles}", "digits", *words)
    assert run.info["computed"]["training"] == dtype
    assert run.info["computed"]["compiled"] is (compiles == "on")
    assert run.metrics["best"]["val_accuracy"] > 0.3


def test_pretraining_comes_to_what_a_cpu_comes_to(run_cli, shapes, tiny, device, data_dir, tmp_path):
    losses = []
    for number, on in enumerate((device, "cpu")):
        where = ("--data-dir", data_dir, "--output-dir", tmp_path, "--name", f"pre-{number}", "--device", on)
        outcome = run_cli("pretrain", shapes, *tiny, "--epochs", "3", *where, "--json")
        assert outcome.code == 0, outcome.err
        result = json.loads(outcome.out)
        losses.append((result["train_loss"], result["val_loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_batch_size_auto_cuts_a_batch_as_memory_asks(run_cli, tiny, device):
    outcome = run_cli("train", "digits", *tiny, "--device", device, "--batch-size", "auto")
    assert outcome.code == 0, outcome.err
    assert ("which fits into memory" if device.type == "cuda" else "which is fastest here") in outcome.err


@pytest.mark.parametrize("mode", ["--dry-run", "--find-lr"])
def test_what_trains_nothing(run_cli, tiny, device, mode):
    outcome = run_cli("train", "digits", *tiny, "--device", device, mode)
    assert outcome.code == 0, outcome.err


# what is done with a model


def answers(run_cli, *words, device):
    outcome = run_cli(*words, "--device", device, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_eval_is_that_of_the_cpu(run_cli, digits_run, device):
    ours, theirs = (
        answers(run_cli, "eval", "--model", digits_run.path, device=each)["metrics"] for each in (device, "cpu")
    )
    assert ours["top1"] == pytest.approx(theirs["top1"], abs=0.01)
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)


def test_predictions_are_those_of_the_cpu(run_cli, digits_run, digit, device):
    words = ("predict", digit, "--model", digits_run.path, "--top-k", "3")
    (ours,), (theirs,) = (answers(run_cli, *words, device=each)["rows"] for each in (device, "cpu"))
    assert ours["classes"][0] == theirs["classes"][0]
    assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=0.02)


def test_attention_maps_are_those_of_the_cpu(digits_run, digit, device):
    here, there = (
        load_model(str(digits_run.path), device=str(each), emit=ignore) for each in (device, torch.device("cpu"))
    )
    for method in METHODS:
        ours, theirs = (torch.as_tensor(attention_map(each, digit, method=method).weights) for each in (here, there))
        torch.testing.assert_close(
            ours, theirs, atol=1e-3, rtol=1e-2, msg=lambda text, method=method: f"{method}: {text}"
        )


def test_pictures_of_attention_are_drawn(run_cli, digits_run, digit, device):
    words = ("attention-map", digit, "--model", digits_run.path, "--device", device, "--compare")
    outcome = run_cli(*words, "--output", Path("maps"))
    assert outcome.code == 0, outcome.err
    assert list(Path("maps").rglob("*.png"))


def test_a_precision_is_chosen_once(digits_run, device):
    model = load_model(str(digits_run.path), device=str(device), emit=ignore).model
    assert len({choose_precision(model, work="training").name for _ in range(3)}) == 1


# runs again


@pytest.mark.parametrize("options", [(), CHANGES], ids=["plain", "changed images"])
def test_a_deterministic_run_has_the_same_bits_again(trained, shapes, options, request):
    words = ("--deterministic", "--drop-path", "0.2", "--batch-size", "4", *options)
    once, again = (
        load_file(trained(f"{request.node.callspec.id}-{number}", shapes, *words).checkpoint("last"))
        for number in range(2)
    )
    assert all(torch.equal(once[name], tensor) for name, tensor in again.items())


def test_a_deterministic_run_that_is_resumed_has_the_bits_of_one_that_was_not(shapes, device):
    settings = {
        "data": {"name": str(shapes)},
        "optim": {"ema": True},
        "augment": {"crop_padding": 1, "mixup": 0.8},
        "run": {"device": str(device), "deterministic": True},
    }
    train(TINY, settings, {"run": {"name": "whole"}})
    with pytest.raises(Stopped):
        train(TINY, settings, emit=Listener(2))
    resume("run")
    whole, resumed = (load_file(Run(Path("experiments") / name).checkpoint("last")) for name in ("whole", "run"))
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())


def test_bench_measures_the_memory_of_the_device_in_every_precision(run_cli, device):
    words = ("--against", "timm", "--precision", "fp32,bf16,fp16", "--batch-size", "1,64", "--seconds", "0.01")
    outcome = run_cli("bench", "vit-nano-patch4", *words, "--rounds", "2", "--device", device, "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["rows"]
    assert len(rows) == 2 * 3 * 2 * 2
    assert all(row["images_per_second"] > 0 for row in rows)
    if device.type == "cuda":  # tensors are counted exactly: more images take more memory
        assert all(row["peak_memory"] > 0 for row in rows)
        assert all(few["peak_memory"] < many["peak_memory"] for few, many in zip(rows[::4], rows[2::4], strict=True))
