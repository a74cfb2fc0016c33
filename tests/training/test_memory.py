"""What `vit train` does about memory: gradient checkpointing, parts of batches, and what becomes of too large ones."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.builders.runs import TINY, Listener, Stopped, results
from tests.builders.trainers import FLOAT32, device_of
from tests.conftest import Outcome
from vitcli.core import memory
from vitcli.core.events import Note, Warned, ignore
from vitcli.core.model_config import ModelConfig
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.models.vit import VisionTransformer
from vitcli.training import computing
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

RunCli = Callable[..., Outcome]
RUN = Path("experiments/run")


def trained(folder: Path, *layers: dict, name: str = "run") -> dict:
    """Files of a run, by name."""
    train({"data": {"name": str(folder)}}, TINY, {"run": {"name": name}}, *layers)
    return {file.removeprefix(f"{name}/"): content for file, content in dict(results(Path("experiments"))).items()}


# gradient checkpointing


def test_a_run_that_recomputes_is_the_same_run(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    draws = ("--drop-path", "0.3", "--set", "model.dropout=0.2", "--batch-size", "4", "--device", "cpu")
    for name, words in (("plain", ()), ("recomputed", ("--grad-checkpointing",))):
        outcome = run_cli("train", shapes, *tiny, *draws, "--name", name, *words)
        assert outcome.code == 0, outcome.err
    plain, recomputed = (Run(Path("experiments") / name) for name in ("plain", "recomputed"))
    assert recomputed.config["run"]["grad_checkpointing"] is True
    assert recomputed.config["resolved_model"] == plain.config["resolved_model"]
    weights = [load_checkpoint(run.best_checkpoint) for run in (plain, recomputed)]
    assert weights[0].model == weights[1].model
    assert all(weights[0].weights[name].equal(tensor) for name, tensor in weights[1].weights.items())


def test_a_run_may_go_on_with_gradient_checkpointing(shapes: Path) -> None:
    expected = trained(shapes, name="whole")
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, emit=Listener(2))
    resume("run", {"run": {"grad_checkpointing": True}})
    found = {name.removeprefix("run/"): each for name, each in dict(results(Path("experiments"))).items()}
    assert found["checkpoints/last.safetensors"][0] == expected["checkpoints/last.safetensors"][0]


def test_gradient_checkpointing_that_changes_nothing_is_said(run_cli: RunCli, shapes: Path, trained_run: Path) -> None:
    words = ("--init-from", trained_run, "--freeze-backbone", "--epochs", "1", "--grad-checkpointing")
    outcome = run_cli("train", shapes, *words)
    assert outcome.code == 0, outcome.err
    assert "--grad-checkpointing changes nothing" in outcome.err


# too large a batch


def test_a_run_whose_batches_do_not_fit_says_so_and_ends_well(shapes: Path) -> None:
    listener = Listener()
    with device_of(4):
        result = train({"data": {"name": str(shapes)}}, TINY, emit=listener)
    assert result.epochs == 4
    assert listener.said(Warned).count("not enough memory for 8 images at once: from here on 4") == 1
    assert Run(RUN).info["micro_batches"] == 2
    assert Run(RUN).config["optim"]["grad_accum_steps"] == 1


def test_a_cpu_with_little_free_memory_takes_micro_batches_from_the_start(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses_with(free: int) -> tuple[list[float], str]:
        (tmp_path / "meminfo").write_text(f"MemTotal: 9999 kB\nMemAvailable: {free} kB\n")
        listener = Listener()
        train({"data": {"name": str(shapes)}}, TINY, {"run": {"name": f"with-{free}"}}, emit=listener)
        metrics = Run(Path("experiments") / f"with-{free}").metrics
        return [epoch["train_loss"] for epoch in metrics["epochs"]], listener.said(Warned)

    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    whole, nothing = losses_with(10_000)
    assert "memory" not in nothing
    cut, told = losses_with(60)
    said = r"8 images needs about [\d.]+ kB of memory, and 61.4 kB are free: it is taken in (\d) micro-batches of"
    found = re.search(said, told)
    assert found, told
    assert Run(Path("experiments/with-60")).info["micro_batches"] == int(found[1]) > 1
    assert cut == pytest.approx(whole, rel=1e-5)
    assert "micro-batches of 1 image, which may not fit either" in losses_with(10)[1]


def test_attention_that_stores_its_probabilities_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With attention dropout, the kernel of a CPU stores N x N numbers for each head."""
    config = ModelConfig(
        image_size=(64, 64),
        patch_size=(2, 2),
        width=48,
        depth=1,
        num_heads=4,
        mlp_width=192,
        num_classes=2,
        pooling="tokens",
    )
    monkeypatch.setattr(computing, "free_memory", lambda: 1_200_000_000)
    taken = {
        share: computing.within_memory(
            VisionTransformer(replace(config, attention_dropout=share)),
            FLOAT32,
            batch_size=100,
            micro_batches=1,
            emit=ignore,
        )
        for share in (0.0, 0.1)
    }
    assert taken[0.0] == 1 < taken[0.1]


def test_only_the_images_that_are_computed_at_once_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model takes them in pieces; one that draws random numbers takes the whole batch at once."""
    config = ModelConfig(
        image_size=(32, 32), patch_size=(4, 4), width=48, depth=4, num_heads=4, mlp_width=192, num_classes=2
    )
    monkeypatch.setattr(computing, "free_memory", lambda: 1_000_000_000)
    taken = {
        share: computing.within_memory(
            VisionTransformer(replace(config, drop_path=share)), FLOAT32, batch_size=2000, micro_batches=1, emit=ignore
        )
        for share in (0.0, 0.1)
    }
    assert taken[0.0] == 1 < taken[0.1]


def test_a_run_that_cannot_take_a_single_image_has_failed(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    with device_of(0):
        outcome = run_cli("train", shapes, *tiny, "--device", "cpu", "--name", "run")
    assert outcome.code == 1
    assert "not enough memory for a single image" in outcome.err
    assert "--grad-checkpointing" in outcome.err
    assert Run(RUN).status == "failed"


@pytest.mark.parametrize("words", [("eval",), ("predict",)])
def test_judging_goes_on_in_parts(
    run_cli: RunCli, trained_run: Path, digit: Path, words: tuple[str, ...], tmp_path: Path
) -> None:
    where = ("--model", trained_run, "--device", "cpu", "--json")
    given = (
        [Path(shutil.copy(digit, tmp_path / f"{number}.png")) for number in range(3)]
        if words == ("predict",)
        else ["--split", "val"]
    )
    whole = run_cli(*words, *given, *where)
    with device_of(2):
        cut = run_cli(*words, *given, *where)
    assert "not enough memory for" in cut.err
    assert cut.code == whole.code == 0
    ours, theirs = (json.loads(outcome.out) for outcome in (cut, whole))
    if words == ("eval",):
        assert ours["metrics"]["confusion"] == theirs["metrics"]["confusion"]
        assert ours["metrics"]["loss"] == pytest.approx(theirs["metrics"]["loss"], abs=1e-6)
    else:
        for row, expected in zip(ours["rows"], theirs["rows"], strict=True):
            assert row["classes"] == expected["classes"]
            assert row["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


def test_features_of_a_frozen_backbone_are_computed_in_parts(run_cli: RunCli, shapes: Path, trained_run: Path) -> None:
    words = ("train", shapes, "--init-from", trained_run, "--freeze-backbone", "--epochs", "1", "--device", "cpu")
    with device_of(5):
        outcome = run_cli(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("not enough memory for") == 1


# compiled models

Shapes = list[tuple[int, ...]]


@pytest.fixture
def compiler_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Shapes]:
    """In place of torch.compile: models that take so many images at once; what they are given is noted."""

    def install(most: int) -> Shapes:
        given: Shapes = []

        def compile_model(model: Callable[[Tensor], Tensor], **_: object) -> Callable[[Tensor], Tensor]:
            def call(images: Tensor) -> Tensor:
                given.append(tuple(images.shape))
                if len(images) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return model(images)

            return call

        monkeypatch.setattr(torch, "compile", compile_model)
        return given

    return install


COMPILED = {"optim": {"batch_size": 4}, "run": {"compile": "on"}}


def test_training_begins_with_the_parts_that_fit_when_compiling_and_goes_on_with_them(
    shapes: Path, compiler_of: Callable[[int], Shapes]
) -> None:
    given, listener = compiler_of(2), Listener(2)
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, COMPILED, emit=listener)
    assert given == [(4, 1, 8, 8), (2, 1, 8, 8), *[(2, 1, 8, 8)] * (2 * 3 * 2)]  # 3 whole batches in each of 2 epochs
    said = "not enough memory for 4 images at once: from here on 2; batch size and learning rate stay the same"
    assert listener.said(Warned).splitlines().count(said) == 1
    assert Run(RUN).info["micro_batches"] == 2
    assert Run(RUN).config["optim"]["grad_accum_steps"] == 1
    given.clear()
    listener = Listener()
    resume("run", emit=listener)
    assert set(given) == {(2, 1, 8, 8)}
    assert "not enough memory" not in listener.said(Warned)


def test_growing_images_are_compiled_in_every_size(shapes: Path, compiler_of: Callable[[int], Shapes]) -> None:
    given = compiler_of(4)
    train({"data": {"name": str(shapes)}}, TINY, COMPILED, {"optim": {"progressive": 0.5}})
    tried, taken = given[:2], given[2:]
    assert tried == [(4, 1, 8, 8), (4, 1, 4, 4)]
    assert len(taken) == 4 * 3  # every whole batch
    assert set(taken) == set(tried)


def test_a_compiled_model_that_cannot_take_a_single_image_is_refused_before_a_run_is_made(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], compiler_of: Callable[[int], Shapes]
) -> None:
    compiler_of(0)
    outcome = run_cli("train", shapes, *tiny, "--compile", "on", "--device", "cpu")
    assert outcome.code == 1
    assert "error: there is not enough memory for a single image" in outcome.err
    assert "--compile off" not in outcome.err
    assert not Path("experiments").exists()


# memory that is wanted elsewhere


def test_memory_that_is_not_there_is_an_error_of_one_line(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_MOST_VALUES", "_MOST_INT"):
        monkeypatch.setattr(f"vitcli.core.model_config.{name}", 10**40)
    monkeypatch.setattr("vitcli.core.preprocessing.LONGEST", 10**20)
    words = ("train", shapes, *tiny, "--image-size", "400000000000000", "--device", "cpu")  # more than can be addressed
    outcome = run_cli(*words)
    assert outcome.code == 1
    what, hint = outcome.err.splitlines()[-2:]
    assert re.fullmatch(r"error: there is not enough memory for [\d.]+ GB more", what)
    assert "fewer or smaller images" in hint
    assert "Traceback" not in outcome.err
    assert not Path("experiments").exists()
    monkeypatch.setenv("VIT_DEBUG", "1")
    with pytest.raises(RuntimeError, match="allocate"):
        run_cli(*words)


# --batch-size auto


def test_auto_keeps_the_batch_and_records_its_parts(
    run_cli: RunCli, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    words = ("train", "digits", *tiny, "--device", "cpu", "--amp", "off")
    outcome = run_cli(*words, "--batch-size", "auto", "--name", "auto")
    assert outcome.code == 0, outcome.err
    assert "each batch of 128 images is taken" in outcome.err
    chosen = Run(Path("experiments/auto")).config["optim"]
    assert chosen["batch_size"] == 128
    parts = chosen["grad_accum_steps"]
    assert parts in {1, 2, 4, 8, 16}
    assert len(list((tmp_path / "data" / "measured").iterdir())) == 1
    for name, more in (("again", ("--batch-size", "auto")), ("told", ("--grad-accum-steps", parts))):
        assert run_cli(*words, *more, "--name", name).code == 0
        weights = [load_checkpoint(Run(Path("experiments") / each).best_checkpoint).weights for each in ("auto", name)]
        assert all(weights[0][key].equal(tensor) for key, tensor in weights[1].items())
    assert len(list((tmp_path / "data" / "measured").iterdir())) == 1


@pytest.mark.parametrize("begun_with", [1, 0], ids=["given", "auto"])
def test_a_run_may_go_on_in_more_parts(run_cli: RunCli, shapes: Path, begun_with: int) -> None:
    """Other parts are another order of the same sum."""
    begun = {"optim": {"grad_accum_steps": begun_with, "optimizer": "sgd"}}
    train({"data": {"name": str(shapes)}}, TINY, begun, {"run": {"name": "whole"}})
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, begun, emit=Listener(2))
    outcome = run_cli("train", "--resume", "run", "--grad-accum-steps", "4")
    assert outcome.code == 0, outcome.err
    run = Run(RUN)
    assert (run.status, len(run.metrics["epochs"])) == ("finished", 4)
    assert (run.info["micro_batches"], run.config["optim"]["grad_accum_steps"]) == (4, 4)
    whole, parts = (load_checkpoint(Run(RUN.with_name(name)).checkpoint("last")).weights for name in ("whole", "run"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-6, msg=name)
    fewer = run_cli("train", "--resume", "run", "--grad-accum-steps", "2", "--epochs", "5")
    assert "--grad-accum-steps 2 has no effect: the run goes on with 4 micro-batches" in fewer.err


def test_a_run_with_auto_goes_on_with_the_parts_that_it_had(shapes: Path) -> None:
    auto = {"optim": {"grad_accum_steps": 0}}
    expected = trained(shapes, auto, name="whole")
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, auto, emit=Listener(2))
    listener = Listener()
    resume("run", emit=listener)
    assert "each batch of" not in listener.said(Note)
    found = {name.removeprefix("run/"): each for name, each in dict(results(Path("experiments"))).items()}
    assert found["checkpoints/last.safetensors"][0] == expected["checkpoints/last.safetensors"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch-size", "auto", "--grad-accum-steps", "2"), "both say how a batch is cut"),
        (("--batch-size", "many"), "'many' is not a number of images"),
        (("--batch-size", "-4"), "'-4' is not a number of images"),
        (("--batch-size", "0"), "--batch-size 0 is not positive"),
        (("--grad-accum-steps", "-1"), "--grad-accum-steps -1 is negative"),
    ],
)
def test_what_is_no_size_of_a_batch_is_refused(run_cli: RunCli, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli("train", "digits", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_a_dry_run_takes_auto_for_the_whole_batch(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    outcome = run_cli("train", shapes, *tiny, "--batch-size", "auto", "--dry-run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
