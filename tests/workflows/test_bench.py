"""``vit bench``: what is measured, chosen and refused. No test depends on how fast this machine is."""

import json
from functools import partial
from itertools import product

import pytest
import torch

from tests.builders.trainers import device_of
from vitcli.core.events import TaskProgress
from vitcli.engine.device import computes_in
from vitcli.models.registry import listed_config
from vitcli.workflows.bench import bench

QUICK = ("--seconds", "0.001", "--rounds", "2")
SMALL = ("vit-nano-patch4", "--image-size", "8", "--classes", "3", *QUICK)


pytestmark = pytest.mark.usefixtures("short_peak")


def as_json(outcome):
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize(
    ("capabilities", "precision", "is_native"),
    [
        ({"avx512_fp16": True}, "float16", True),
        ({"f16c": True}, "float16", False),
        ({"fp16_arith": True}, "float16", True),
        ({}, "float32", True),
    ],
)
def test_what_a_processor_emulates_has_no_peak(monkeypatch, capabilities, precision, is_native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in(torch.device("cpu"), precision) == is_native


def test_a_share_of_an_emulated_peak_is_not_printed(run_cli, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    words = ("--batch-size", "1", "--precision", "fp16", "--work", "inference")
    outcome = run_cli("bench", *SMALL, *words)
    assert outcome.code == 0, outcome.err
    assert "has no instructions for float16: it emulates them, slowly" in outcome.err
    assert "none in float16, which this device only emulates" in " ".join(outcome.out.split())
    assert outcome.out.rstrip().endswith("-")


def test_every_combination_is_a_row_for_each_library(run_cli, monkeypatch):
    def refuse(number):
        pytest.fail(f"torch.set_num_threads({number}) slows attention in float32 down for the rest of the process")

    monkeypatch.setattr(torch, "set_num_threads", refuse)
    words = ("--batch-size", "1,2", "--precision", "fp32,bf16", "--against", "timm")
    result = as_json(run_cli("bench", *SMALL, *words, "--json"))
    rows = result["rows"]
    combinations = product(("training", "inference"), ("float32", "bfloat16"), (1, 2), ("vit", "timm"))
    assert [(row["work"], row["precision"], row["batch_size"], row["library"]) for row in rows] == [*combinations]
    config = listed_config("vit-nano-patch4")
    assert (result["model"], result["image_size"], result["classes"]) == (config.name, [8, 8], 3)
    assert set(result["peaks"]) == {name for name in ("float32", "bfloat16") if computes_in(torch.device("cpu"), name)}
    assert {"torch", "timm"} <= {*result["versions"]}
    for row in rows:
        assert row["error"] == ""
        assert 0 < row["slowest"] <= row["images_per_second"] <= row["fastest"]
        assert (row["latency"] is None) == (row["work"] == "training")
        assert row["peak_memory"] is None
        assert (row["ratio"] is None) == (row["library"] == "vit")
        passes = 3 if row["work"] == "training" else 1
        peak = result["peaks"].get(row["precision"])
        assert row["of_peak"] == (peak and pytest.approx(row["images_per_second"] * passes * result["flops"] / peak))
    for ours, theirs in zip(rows[::2], rows[1::2], strict=True):
        found = theirs["ratio"]
        assert found["rounds"] == 2
        assert found["of_medians"] == pytest.approx(ours["images_per_second"] / theirs["images_per_second"])
        assert 0.9999 * found["least"] <= found["of_medians"] <= 1.0001 * found["most"]  # as in any two rounds
        assert ours["library"] == "vit"


def test_the_cost_of_an_image_is_that_of_every_product():
    """Counted by hand: patches, then in each block queries to values, scores, their use, projection and MLP; the head."""
    result = bench("vit-nano-patch4", batch_sizes=[1], seconds=0.001, rounds=1, work="inference")
    tokens, width, depth = 49, 48, 4
    block = tokens * (4 * width**2 + 2 * width * 192) + 2 * tokens**2 * width
    assert result.flops == 2 * (tokens * width * 3 * 16 + depth * block + width * 10)


def test_tables_say_what_was_measured(run_cli):
    outcome = run_cli("bench", *SMALL, "--batch-size", "1", "--against", "timm,torchvision", "--image-size", "16")
    assert outcome.code == 1
    assert "torchvision has no model like vit-nano-patch4: there, only the class token is classified" in outcome.err
    outcome = run_cli("bench", *SMALL, "--batch-size", "1", "--against", "timm", "--precision", "fp32")
    assert outcome.code == 0, outcome.err
    for words in ("model", "8 pixels, 3 channels, 3 classes", "MFLOP", "training, float32", "inference, float32"):
        assert words in outcome.out
    assert "above 1, vit is faster" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("timm") and "inference" in line]
    assert len(line.split()) == 7
    assert "memory" not in outcome.out  # which is measured on GPUs only


def test_a_batch_that_does_not_fit_is_a_row_and_not_the_end(run_cli):
    with device_of(4):
        outcome = run_cli("bench", *SMALL, "--batch-size", "2,8,3", "--precision", "fp32", "--json")
    rows = as_json(outcome)["rows"]
    assert [(row["batch_size"], row["error"]) for row in rows] == [
        *((2, ""), (8, "out of memory"), (3, "")),
    ] * 2
    failed = rows[1]
    assert [failed[name] for name in ("images_per_second", "latency", "peak_memory", "of_peak", "ratio")] == [None] * 5
    with device_of(4):
        outcome = run_cli("bench", *SMALL, "--batch-size", "8", "--against", "timm", "--precision", "fp32")
    assert outcome.out.count("out of memory") == 2
    assert "vit is faster" in outcome.out


@pytest.mark.parametrize(("has_bfloat16", "precisions"), [("no", ["float32"]), ("yes", ["float32", "bfloat16"])])
def test_only_one_kind_of_work_is_measured_if_asked_in_each_usual_precision(
    run_cli, monkeypatch, has_bfloat16, precisions
):
    monkeypatch.setenv("VIT_BFLOAT16", has_bfloat16)
    rows = as_json(run_cli("bench", *SMALL, "--batch-size", "1", "--work", "inference", "--json"))["rows"]
    assert [(row["work"], row["precision"]) for row in rows] == [("inference", each) for each in precisions]


def test_without_a_model_it_is_the_newest_run_or_a_small_one(run_cli, trained_run):
    words = (*QUICK, "--batch-size", "1", "--work", "inference", "--json")
    outcome = run_cli("bench", *words, "--output-dir", trained_run.parent)
    assert "that of the newest finished run, shared" in outcome.err
    assert (as_json(outcome)["image_size"], as_json(outcome)["channels"]) == ([8, 8], 1)
    outcome = run_cli("bench", *words)
    assert "model: vit-nano-patch4, because there is no finished run" in outcome.err
    assert as_json(outcome)["model"] == "vit-nano-patch4"


def test_a_run_or_a_file_is_measured_at_the_size_that_is_asked_for(run_cli, trained_run):
    words = ("--batch-size", "1", "--work", "inference", *QUICK, "--image-size", "16", "--json")
    parameters = []
    for model in (trained_run, trained_run / "checkpoints" / "best.safetensors"):
        result = as_json(run_cli("bench", model, *words))
        assert result["image_size"] == [16, 16]
        parameters.append(result["parameters"])
    assert parameters[0] == parameters[1]


def test_the_progress_names_what_is_measured():
    events = []
    words = {"work": "training", "precisions": ["float32"], "seconds": 0.001, "rounds": 2}
    bench("vit-nano-patch4", batch_sizes=[2], **words, emit=events.append)
    progress = [(event.task, event.done, event.total) for event in events if isinstance(event, TaskProgress)]
    peak = [("the peak of the device", 0, 1), ("the peak of the device", 1, 1)]
    assert progress == [*peak, *(("training in float32, batch 2", done, 4) for done in range(5)), *peak]


def test_inference_is_not_compiled(run_cli):
    outcome = run_cli("bench", "vit-nano-patch4", "--work", "inference", "--compile", "on")
    assert outcome.code == 2
    assert "models are compiled for training only" in outcome.err


def test_training_can_be_compiled(run_cli, trained_run, monkeypatch):
    """By a backend that takes no compiler; the run is of one block, of which there is little to compile."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    words = ("--batch-size", "1", "--work", "training", "--precision", "fp32", "--compile", "on", "--against", "timm")
    result = as_json(run_cli("bench", trained_run, *QUICK, *words, "--json"))
    assert result["compiled"]
    assert [(row["library"], row["error"]) for row in result["rows"]] == [("vit", ""), ("timm", "")]


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("--batch-size 0", "--batch-size 0", "--batch-size 1,16"),
        ("--batch-size 1,x", "'1,x' is not a list of whole numbers", "--batch-size 1,16"),
        ("--precision fp31", "'fp31' is not one of fp32, bf16, fp16", "fp32"),
        ("--seconds nan", "batch sizes, rounds and seconds must be positive", ""),
        ("--image-size 9", "image size 9 is not divisible by patch size 4", "--image-size 8"),
        ("--image-size big", "--image-size 'big' is not a size", "32, or 32x48\n"),
        ("--classes 0", "--classes 0 is not a whole number of 1 or more", "--classes"),
        ("--work both", "--work 'both' is not one of training, inference", "--work"),
        ("--against transformers", "transformers has no model like vit-nano-patch4", "vit-tiny-patch16"),
        ("--against keras", "'keras' is not one of timm, torchvision, transformers", ""),
    ],
)
def test_what_makes_no_sense_is_refused(run_cli, words, message, hint):
    outcome = run_cli("bench", "vit-nano-patch4", *QUICK, *words.split())
    assert outcome.code in {1, 2}
    assert message in outcome.err
    assert hint in outcome.err
    assert outcome.out == ""


def test_a_misspelt_architecture_is_suggested(run_cli):
    outcome = run_cli("bench", "vit-tinny-patch16")
    assert outcome.code == 1
    assert "'vit-tinny-patch16' is not an architecture, a run in experiments, a file" in outcome.err
    assert "did you mean 'vit-tiny-patch16'?" in outcome.err
