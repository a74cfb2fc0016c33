import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitcli.core.config_files import configure, layers_of
from vitcli.core.errors import UsageError
from vitcli.core.events import ignore
from vitcli.core.runs import Run
from vitcli.engine import autocast
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.engine.device import fingerprint, seed_everything
from vitcli.engine.distributed import Processes
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import load_model
from vitcli.trained.precision import seconds_by_precision
from vitcli.training.computing import choose_computing
from vitcli.workflows.attention_api import attention_map

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    """Precisions are measured in few rounds: what is faster here is no matter."""
    monkeypatch.setattr("vitcli.engine.timing._MOST_ROUNDS", 3)


@pytest.fixture
def train(run_cli, tiny, tmp_path):
    def run(*words):
        where = ("--output-dir", tmp_path, "--device", "cpu")
        return run_cli("train", "digits", *tiny, "--amp", "auto", "--name", "run", *where, *words)

    return run


def provenance(run):
    return load_checkpoint(run.best_checkpoint).provenance


# settings


@pytest.mark.parametrize("key", ["amp", "compile"])
@pytest.mark.parametrize(
    ("value", "expected"), [(True, "on"), (False, "off"), ("auto", "auto"), ("on", "on"), ("off", "off")]
)
def test_true_and_false_are_on_and_off(key, value, expected):
    assert getattr(configure({"run": {key: value}}).run, key) == expected


@pytest.mark.parametrize(("word", "expected"), [("true", "on"), ("false", "off"), ("auto", "auto"), ("on", "on")])
def test_files_and_assignments_say_it_in_either_way(tmp_path, word, expected):
    assert configure(*layers_of({}, assignments=[f"run.compile={word}"])).run.compile == expected
    quoted = word if word in {"true", "false"} else f'"{word}"'
    (tmp_path / "settings.toml").write_text(f"[run]\ncompile = {quoted}\n")
    assert configure(*layers_of({}, config=tmp_path / "settings.toml")).run.compile == expected


def test_other_choices_are_not_made_of_true_and_false():
    with pytest.raises(UsageError, match="cache = False is not one of"):
        configure({"data": {"cache": False}})


@pytest.mark.parametrize("option", ["--amp", "--compile"])
def test_what_is_none_of_the_three_is_refused_with_the_nearest(run_cli, option):
    outcome = run_cli("train", "digits", option, "atuo")
    assert outcome.code == 2
    assert f"{option} 'atuo' is not one of auto, on, off" in outcome.err
    assert "did you mean 'auto'?" in outcome.err


# what is chosen, recorded and honoured


def test_a_processor_without_bfloat16_measures_nothing_and_computes_in_float32(train, tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_BFLOAT16", "no")
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    outcome = train()
    assert outcome.code == 0, outcome.err
    computed = Run(tmp_path / "run").info["computed"]
    assert computed == {
        "training": "float32",
        "inference": "float32",
        "compiled": False,
        "machine": fingerprint(CPU),
    }
    assert provenance(Run(tmp_path / "run"))["computed"] == computed
    assert not (tmp_path / "data" / "measured").exists()
    assert "precision" not in outcome.err


def test_a_processor_with_bfloat16_measures_once_and_keeps_to_what_it_found(train, run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_BFLOAT16", "yes")
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    outcome = train()
    assert outcome.code == 0, outcome.err
    run = Run(tmp_path / "run")
    computed, measured = run.info["computed"], tmp_path / "data" / "measured"
    said = f"training in {computed['training']}, validation in {computed['inference']}"
    assert f"precision, as measured here: {said}" in outcome.err
    assert {computed["training"], computed["inference"]} <= {"float32", "bfloat16"}
    assert len(list(measured.iterdir())) == 2  # of training and of inference
    assert run_cli("eval", "--output-dir", tmp_path, "--device", "cpu").code == 0
    assert json.loads(run.evaluation("test").read_text())["precision"] == computed["inference"]
    assert len(list(measured.iterdir())) == 2


def test_validation_and_eval_agree_in_mixed_precision(train, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr(autocast, "_can_pack", lambda: False)  # packed matrices may be rounded otherwise
    outcome = train("--amp", "on", "--epochs", "2")
    assert outcome.code == 0, outcome.err
    run = Run(tmp_path / "run")
    computed = run.info["computed"]
    assert (computed["training"], computed["inference"]) == ("bfloat16", "bfloat16")
    assert run_cli("eval", "--output-dir", tmp_path, "--device", "cpu", "--split", "val").code == 0
    evaluated = json.loads(run.evaluation("val").read_text())
    best = run.metrics["best"]
    assert evaluated["precision"] == "bfloat16"
    assert evaluated["top1"] == best["val_accuracy"]
    assert evaluated["loss"] == pytest.approx(best["val_loss"], abs=1e-12)


def with_provenance(trained_run, path, **changes):
    """The trained run's checkpoint, but for some of its provenance."""
    checkpoint = load_checkpoint(Run(trained_run).best_checkpoint)
    save_checkpoint(path, replace(checkpoint, provenance={**checkpoint.provenance, **changes}))
    return load_model(str(path), output_dir=path.parent, device="cpu", emit=ignore)


HERE = fingerprint(CPU)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amp": "on", "amp_dtype": "bfloat16"}, "bfloat16"),
        ({"amp": "on", "amp_dtype": "float16"}, "float16"),
        ({"amp": "off"}, "float32"),
        ({"amp": "off", "computed": {"inference": "bfloat16", "machine": HERE}}, "float32"),
        ({"amp": "auto", "computed": {"inference": "bfloat16", "training": "float32", "machine": HERE}}, "bfloat16"),
        ({"amp": "auto", "computed": {"inference": "float32", "training": "bfloat16", "machine": HERE}}, "float32"),
    ],
)
def test_inference_computes_as_training_was_told_or_as_its_run_did_here(trained_run, tmp_path, changes, expected):
    assert with_provenance(trained_run, tmp_path / "it.safetensors", **changes).precision.name == expected


@pytest.mark.parametrize("machine", [{**HERE, "torch": "1.0"}, {**HERE, "threads": 99}, None])
def test_what_another_machine_chose_does_not_count_here(trained_run, tmp_path, monkeypatch, machine):
    monkeypatch.setenv("VIT_BFLOAT16", "no")
    computed = {"inference": "bfloat16", "training": "bfloat16", "machine": machine}
    loaded = with_provenance(trained_run, tmp_path / "it.safetensors", amp="auto", computed=computed)
    assert loaded.precision.name == "float32"


@pytest.mark.parametrize("machine", [HERE, None])
def test_a_run_that_goes_on_computes_as_it_did_before_on_the_same_machine(trained_run, machine):
    model = small_model(trained_run)
    recorded = {"training": "bfloat16", "inference": "bfloat16", "compiled": False, "machine": machine}
    options = {"num_images": 100, "processes": Processes(), "emit": ignore}
    fresh = choose_computing(model, configure(), **options).record
    assert fresh["machine"] == HERE
    again = choose_computing(model, configure(), recorded=recorded, **options).record
    assert again == (recorded if machine else fresh)
    told = choose_computing(model, configure({"run": {"amp": "off"}}), recorded=recorded, **options)
    assert (told.training.name, told.inference.name) == ("float32", "float32")


def test_a_head_alone_is_trained_in_float32_and_not_compiled(trained_run):
    config = configure({"optim": {"train_only": "head"}, "run": {"compile": "on"}})
    events = []
    record = choose_computing(
        small_model(trained_run), config, num_images=100, processes=Processes(), emit=events.append
    ).record
    assert (record["training"], record["compiled"]) == ("float32", False)
    assert any("--compile on has no effect" in event.text for event in events)


def test_runs_that_are_older_than_the_record_can_be_used(trained_run, tmp_path):
    loaded = with_provenance(trained_run, tmp_path / "it.safetensors", computed=None, amp="auto")
    assert loaded.precision.name in {"float32", "bfloat16"}


def test_attention_maps_are_always_computed_in_float32(trained_run, digit, tmp_path):
    maps = []
    for amp in ("off", "on"):
        path = tmp_path / f"{amp}.safetensors"
        assert with_provenance(trained_run, path, amp=amp).precision.enabled is (amp == "on")
        maps.append(attention_map(str(path), digit, method="relevance").weights)
    assert np.array_equal(*maps)


# the measurement


def small_model(trained_run):
    return VisionTransformer(load_checkpoint(Run(trained_run).best_checkpoint).model)


@pytest.mark.parametrize("work", ["training", "inference"])
def test_a_measurement_is_made_once_and_changes_nothing_random(trained_run, tmp_path, monkeypatch, work):
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path))
    model = small_model(trained_run)
    draws = []
    for _ in range(2):  # the first time it is measured, then it is remembered
        seed_everything(1)
        figures = seconds_by_precision(model, work, "bfloat16", 4)
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist(), figures))  # noqa: NPY002
    assert draws[0] == draws[1]
    seed_everything(1)
    assert draws[0][0] == torch.rand(3).tolist()
    (file,) = (tmp_path / "measured").iterdir()
    question = json.loads(file.read_text())["question"]
    assert question["machine"] == HERE
    assert question["work"] == work
    assert question["model"]["width"] == 16


def test_training_and_inference_other_models_and_other_batches_are_measured_apart(trained_run, tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path))
    model = small_model(trained_run)
    other = VisionTransformer(replace(model.config, num_heads=4))
    renamed = VisionTransformer(replace(model.config, name="renamed", init_std=0.5))
    asked = [(model, "training", 4), (model, "training", 8), (model, "inference", 4), (other, "inference", 4)]
    figures = [seconds_by_precision(*each[:2], "bfloat16", each[2]) for each in asked]
    assert len(list((tmp_path / "measured").iterdir())) == 4
    assert seconds_by_precision(renamed, "inference", "bfloat16", 4) == figures[2]


# compilation


def test_a_machine_without_a_compiler_says_so_before_anything_is_written(train, tmp_path, monkeypatch):
    from torch._inductor import config

    torch.compiler.reset()
    monkeypatch.setattr(config.cpp, "cxx", ("/nonexistent/c++",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    outcome = train("--compile", "on")
    assert outcome.code == 1
    assert "torch.compile does not work here" in outcome.err
    assert "--compile off" in outcome.err
    assert not (tmp_path / "run").exists()
