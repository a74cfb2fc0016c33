"""`vit export`, through ``main``."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Outcome
from vitcli.cli.export import _preprocessing
from vitcli.core.runs import Run
from vitcli.trained.loading import load_model
from vitcli.workflows.export import ExportResult, _difference

RunCli = Callable[..., Outcome]


def test_a_run_keeps_what_is_exported_and_nothing_is_replaced_unasked(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("--model", "vit-tiny-patch8", "--image-size", "8", "--set", "model.num_heads=1", "--name", "run")
    assert run_cli("train", shapes, *tiny, *words).code == 0
    folder = Run(tmp_path / "experiments" / "run").exports / "transformers"
    first = run_cli("export", "--format", "transformers")
    assert first.code == 0, first.err
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "left", "1": "right"}
    again = run_cli("export", "--format", "transformers")
    assert again.code == 1
    assert "already exists" in again.err
    assert run_cli("export", "--format", "transformers", "--overwrite", "--json").code == 0
    assert [each.name for each in folder.parent.iterdir()] == ["transformers"]


def test_what_was_exported_can_be_used_and_fine_tuned_again(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("--model", "vit-tiny-patch8", "--image-size", "8", "--set", "model.num_heads=1", "--name", "run")
    assert run_cli("train", shapes, *tiny, *words).code == 0
    assert run_cli("export", "--format", "timm", "--output", tmp_path / "timm").code == 0
    image = next(shapes.glob("left/*.png"))
    own, theirs = (json.loads(run_cli("predict", image, "--json", *words).out) for words in ((), ("--model", "timm")))
    assert theirs["rows"][0]["classes"] == own["rows"][0]["classes"]
    assert theirs["rows"][0]["probabilities"] == pytest.approx(own["rows"][0]["probabilities"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "onx"), "did you mean 'onnx'?"),
        (("--format", "transformers"), "transformers has no such model: there, only the class token is classified"),
        (("nowhere",), "'nowhere' is not a run in"),
    ],
)
def test_what_cannot_be_exported_is_said(
    run_cli: RunCli, trained_run: Path, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    outcome = run_cli("export", *words, "--output-dir", trained_run.parent)
    assert outcome.code in {1, 2}
    assert said in outcome.err
    assert not (trained_run / "exports" / "transformers").exists()
    assert not list(tmp_path.iterdir())


def test_the_model_is_an_argument_or_an_option(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    words = ("--format", "torchscript", "--output", tmp_path / "model.pt")
    for model in (["--model", trained_run], ["-m", trained_run, "--overwrite"]):
        outcome = run_cli("export", *model, *words)
        assert outcome.code == 0, outcome.err
        assert re.search(r"checked +logits (differ by at most \d\.\de-\d\d|are the same) *\n", outcome.out)
    both = run_cli("export", trained_run, "--model", "other", *words)
    assert both.code == 2
    assert "hint: vit export other\n" in both.err
    assert f"{trained_run} and --model other both name the model: leave out one of them" in both.err


def test_what_is_checked_is_said_in_plain_words() -> None:
    def said(logits: float, inputs: float, shift: int) -> tuple[str, str]:
        result = ExportResult(
            model="m",
            format="timm",
            path=Path("m"),
            max_difference=logits,
            input_difference=inputs,
            input_shift=shift,
        )
        assert result.logits_in_words() in repr(result)
        return result.logits_in_words(), _preprocessing(result)

    assert said(0, 0, 0) == ("logits are the same", "two photos give the same inputs")
    shifted = "inputs of two photos differ by 0.004 of 255 grey levels on average, after a shift by 1 pixel"
    assert said(1.2e-6, 0.004, 1) == ("logits differ by at most 1.2e-06", shifted)


def test_the_check_sees_a_difference(trained_run: Path) -> None:
    model = load_model(str(trained_run), output_dir=Path(), device="cpu", emit=lambda _: None).model
    assert _difference(model, model, 2) == 0
    assert _difference(model, lambda images: model(images) + torch.eye(10)[:2] * 3e-4, 2) > 1e-4


def test_images_that_are_resized_before_they_are_enlarged_are_warned_of(
    run_cli: RunCli, tmp_path: Path, tiny: tuple[str, ...]
) -> None:
    where = ("--name", "up", "--output-dir", tmp_path)
    assert run_cli("train", "digits", *tiny, "--image-size", "16", *where).code == 0
    outcome = run_cli("export", "up", "--format", "timm", "--output-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "vit first resizes every image to 8 pixels, and timm does not" in " ".join(outcome.err.split())


def test_an_earlier_export_stays_if_it_cannot_be_replaced(
    run_cli: RunCli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "--output-dir", trained_run.parent, "--output", tmp_path / "out", "--format", "timm")
    assert run_cli(*words).code == 0
    rename = Path.replace

    def refusing(path: Path, target: Path) -> Path:
        if target == tmp_path / "out" and path.name == "out":
            raise OSError(28, "No space left on device", str(target))
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refusing)
    assert run_cli(*words, "--overwrite").code == 1
    assert (tmp_path / "out" / "config.json").is_file()


def test_only_an_earlier_export_is_replaced(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (precious / "below").mkdir(parents=True)
    (precious / "thesis.txt").write_text("all of it")
    words = ("export", "--output-dir", trained_run.parent, "--output", precious, "--overwrite")
    refused = run_cli(*words, "--format", "timm")
    assert refused.code == 1
    assert "not an earlier export" in refused.err
    assert run_cli(*words, "--format", "torchscript").code == 0  # a folder for a file: it goes inside
    assert run_cli(*words, "--format", "torchscript").code == 0
    assert (precious / "thesis.txt").read_text() == "all of it"
    assert (precious / "model.torchscript.pt").is_file()
    file = tmp_path / "f.txt"
    file.write_text("kept")
    assert run_cli("export", "--output-dir", trained_run.parent, "--output", file, "--format", "timm").code == 1
    assert file.read_text() == "kept"


def test_another_epoch_is_exported_beside_the_best(run_cli: RunCli, trained_run: Path) -> None:
    words = ("--format", "torchscript", "--overwrite", "--json")
    best = run_cli("export", "--output-dir", trained_run.parent, *words)
    last = run_cli("export", trained_run / "checkpoints" / "last.safetensors", *words)
    assert (best.code, last.code) == (0, 0), last.err
    assert json.loads(best.out)["path"] != json.loads(last.out)["path"]
