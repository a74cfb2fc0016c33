"""``import vitcli``: options as keywords, progress, and what notebooks show of a result."""

import inspect
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vitcli
from tests.conftest import Outcome
from vitcli.cli.train_options import ROWS
from vitcli.cli.usage_errors import in_python
from vitcli.core.events import EpochRecord, Event
from vitcli.core.notebooks import html_table
from vitcli.core.runs import Run
from vitcli.engine.rate_finder import RatePoint
from vitcli.training.groups import summed_up
from vitcli.training.result import result_of
from vitcli.workflows.calibrate import CalibrationResult
from vitcli.workflows.download import WeightsResult
from vitcli.workflows.find_lr import FoundRate
from vitcli.workflows.predict import Prediction, PredictResult

SMALL = {"model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32}}


@pytest.fixture(scope="module")
def run(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> vitcli.TrainResult:
    """The result of a run that may be changed."""
    return result_of(Run(shutil.copytree(trained_run, tmp_path_factory.mktemp("runs") / "mine")))


def test_keywords_are_the_options_of_the_command_line(shapes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = vitcli.train(shapes, SMALL, {"optim": {"epochs": 9}}, epochs=1, batch_size=8, amp="off", name="mine")
    assert isinstance(result, vitcli.TrainResult)
    config = Run(Path("experiments/mine")).config
    assert (config["optim"]["epochs"], config["optim"]["batch_size"], config["model"]["width"]) == (1, 8, 16)
    printed = capsys.readouterr()
    assert "1/1 " in printed.err
    assert "\x1b" not in printed.err
    assert printed.out == ""


def test_options_win_over_dictionaries_and_these_over_the_file(shapes: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[optim]\nepochs = 9\nlr = 0.5\nwarmup_epochs = 0\n")
    events: list[Event] = []
    settings: dict[str, Any] = {**SMALL, "optim": {"lr": 0.25, "epochs": 5}}
    vitcli.train(shapes, settings, config=file, epochs=1, amp="off", emit=events.append, name="mine")
    optim = Run(Path("experiments/mine")).config["optim"]
    assert (optim["epochs"], optim["lr"], optim["warmup_epochs"]) == (1, 0.25, 0)
    assert any(isinstance(event, EpochRecord) for event in events)


def test_a_listener_or_quiet_replaces_what_is_shown(
    run: vitcli.TrainResult, digit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, events = run.path.parent, list[Event]()
    vitcli.predict(digit, output_dir=runs, emit=events.append)
    assert events
    vitcli.predict(digit, output_dir=runs, quiet=True)
    assert capsys.readouterr() == ("", "")
    vitcli.predict(digit, output_dir=str(runs))
    assert "model: the newest finished run, mine" in capsys.readouterr().err


def test_the_signature_has_every_option_that_is_a_setting() -> None:
    assert inspect.signature(vitcli.train).parameters.keys() == {
        "settings",
        "quiet",
        "emit",
        "config",
        *(row.parameter for row in ROWS if row.setting),
    }


@pytest.mark.parametrize(
    ("call", "message", "hint"),
    [
        (lambda: vitcli.train("digits", eopchs=3), "train() has no option 'eopchs'", "did you mean 'epochs'?"),
        (lambda: vitcli.train("digits", optimizer="sgd"), "no option 'optimizer'", "did you mean 'opt'?"),
        (lambda: vitcli.train("digits", resume="x"), "no option 'resume'", "help(vitcli.train) lists all"),
        (lambda: vitcli.predict("x", modl=""), "predict() has no option 'modl'", "did you mean 'model'?"),  # type: ignore[call-arg]
        (lambda: vitcli.train("digits", batch_size=-1), "batch_size=-1 is not", "expected: a number, or auto"),
        (lambda: vitcli.train(3), "a value of type int", 'for example train("digits", epochs=3)'),  # type: ignore[arg-type]
        (
            lambda: vitcli.train("digits", lora=4, freeze_backbone=True),
            "freeze_backbone=True and lora= each say what is trained",
            "give one of them",
        ),
        (
            lambda: vitcli.attention_map("x", "y", methd=""),
            "attention_map() has no option 'methd'",
            "did you mean 'method'?",
        ),  # type: ignore[call-arg]
        (lambda: vitcli.export("x", outptu=""), "export() has no option 'outptu'", "did you mean 'output'?"),  # type: ignore[call-arg]
        (
            lambda: vitcli.export("x", quiet=True),
            "'x' is not a run in experiments",
            "`vit runs` lists the runs, `vit download` pretrained weights",
        ),
        (
            lambda: vitcli.train("digits", epochs=0),
            "epochs = 0",
            "for example epochs = 20; leave it out to take the usual one",
        ),
        (lambda: vitcli.train("digits", fold=7, folds=3), "fold = 7", "folds=3, fold=3 trains the last one"),
    ],
)
def test_mistakes_have_a_hint(call: Any, message: str, hint: str) -> None:
    with pytest.raises(vitcli.VitError) as caught:
        call()
    assert message in caught.value.message
    assert str(caught.value).endswith(f"\nhint: {hint}")


def test_a_run_is_not_a_data_set(
    run: vitcli.TrainResult, run_cli: Callable[..., Outcome], trained_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(vitcli.VitError) as caught:
        vitcli.evaluate(run, model=run)
    assert caught.value.message == f"{run.path} is a run, not a data set"
    assert caught.value.hint == f'model="{run.path}" uses it; `vit train DATA --init-from {run.path}` starts from it'
    shutil.copytree(trained_run, tmp_path / "experiments" / "mine")
    for words in ("eval mine", "check-labels mine", "train mine", "preview mine", "attention-map --dataset mine"):
        outcome = run_cli(*words.split())
        assert outcome.code == 1
        assert outcome.err.startswith("error: experiments/mine is a run, not a data set\nhint: --model=mine uses it;")
    assert "is a run, not a data set" in run_cli("eval", "experiments/mine").err
    with pytest.raises(vitcli.VitError, match="experiments/mine is a run") as caught:
        vitcli.evaluate("mine")
    assert caught.value.hint.startswith('model="mine" uses it;')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choose another name: --name NAME, or --overwrite", "choose another name: name=NAME, or overwrite=True"),
        ("optim.epochs = 20 and data.name = x", "epochs = 20 and data.name = x"),
        ("leave out --folds, or --no-ema", "leave out folds=, or ema=False"),
        ("--lr 1e-3: try --opt adamw, or --device cpu.", 'lr=1e-3: try opt="adamw", or device="cpu".'),
        (
            "--set data.resize=squash, or --set model.width=64",
            '{"data": {"resize": "squash"}}, or {"model": {"width": 64}}',
        ),
        ("--init-from deit-tiny --freeze-backbone usually", 'init_from="deit-tiny", freeze_backbone=True usually'),
        ("--workers 3, or --labels 'a,b', or --name x.1,2.", "workers=3, or labels='a,b', or name=\"x.1,2\"."),
        ("type `vit train --name x`, or --dry-run", "type `vit train --name x`, or --dry-run"),
        ("vit train --resume x --epochs 3", "vit train --resume x --epochs 3"),
    ],
)
def test_texts_name_keywords_in_place_of_options(text: str, expected: str) -> None:
    keywords = inspect.signature(vitcli.train).parameters
    assert in_python(text, keywords, {"overwrite", "ema", "freeze_backbone"}, {"optim.epochs": "epochs"}) == expected


def test_every_result_prints_as_one_line() -> None:
    results = {
        kind
        for name in vitcli.__all__
        if inspect.isfunction(function := getattr(vitcli, name)) and name != "configure"
        for kind in re.findall(r"\w+", str(inspect.signature(function).return_annotation))
    }
    assert results > {"FoundRate", "Preview", "CalibrationResult", "ExportResult", "DownloadResult", "WeightsResult"}
    source = "".join(path.read_text() for path in Path(vitcli.__file__).parent.rglob("*.py"))
    for name in results:
        body = re.findall(rf"^class {name}\b.*?(?=^\S)", source, re.MULTILINE | re.DOTALL)
        assert len(body) == 1
        assert "def __repr__" in body[0], name


def test_facts_of_results_are_in_their_line() -> None:
    rate = FoundRate(
        dataset="digits",
        model="m",
        changed_sizes="",
        recipe="r",
        optimizer="muon",
        lr=0.02,
        settings={},
        configured=0.01,
        least=0.1,
        diverged=None,
        points=(RatePoint(lr=0.1, loss=1.0, smoothed=1.0),) * 500,
        figure=Path("f.png"),
    )
    assert repr(rate) == "<FoundRate for digits: lr 0.02 is suggested, 0.01 is configured>"
    weights = WeightsResult(name="w", path=Path("w.pth"), was_there=True, licence="MIT", model="vit")
    assert repr(weights) == "<WeightsResult w: vit, w.pth>"


def test_results_are_one_line_and_models(run: vitcli.TrainResult, digit: Path) -> None:
    model = vitcli.load_model(run)
    evaluated = vitcli.evaluate(model=run, quiet=True)
    predicted = vitcli.predict([digit], model=run, quiet=True)
    accuracy, top1 = f"{100 * run.best.val_accuracy:.2f} %", f"{100 * evaluated.metrics.top1:.2f} %"
    assert repr(run) == f"<TrainResult {run.path}: kept epoch {run.best.epoch} of 2, validation accuracy {accuracy}>"
    assert repr(evaluated) == f"<EvalResult mine: top-1 {top1} of 359 test images of digits>"
    assert repr(evaluated.metrics).startswith(f"<Metrics: top-1 {top1} of 359 images, loss ")
    assert repr(predicted) == "<PredictResult of mine: 1 image>"
    assert repr(model).startswith("<LoadedModel mine: vit-nano-patch2, ")
    found = vitcli.attention_map(model, digit, target="3")
    assert repr(found) == f"<AttentionMap {found.method} for 3: 4 x 4 patches>"


@pytest.mark.pictures
def test_notebooks_show_tables_and_pictures(run: vitcli.TrainResult, digit: Path) -> None:
    evaluated = vitcli.evaluate(model=run, quiet=True)
    found = vitcli.attention_map(run, digit)
    for result in (run, evaluated, found):
        png = result._repr_png_()
        assert png is not None
        assert png.startswith(b"\x89PNG")
    assert f"{100 * run.best.val_accuracy:.2f} %</td>" in run._repr_html_()
    assert "<img src=" in run._repr_html_()
    assert f"{evaluated.metrics.classes[3].correct:,} of " in evaluated._repr_html_()
    assert "(not held out)" not in evaluated._repr_html_()
    assert "(not held out)" in replace(evaluated, held_out=False)._repr_html_()


def test_a_calibration_is_a_table_in_notebooks() -> None:
    numbers = {"loss_before": 0.5, "loss_after": 0.4, "ece_before": 0.125, "ece_after": 0.0325}
    done = CalibrationResult(model="mine", checkpoint=Path("best.safetensors"), temperature=1.25, images=9, **numbers)
    shown = ("before", "1.250", "0.5000", "0.4000", "12.50 %", "3.25 %")
    assert [each for each in shown if each not in done._repr_html_()] == []


def test_previews_and_rates_are_pictures_in_notebooks(tmp_path: Path) -> None:
    seen = vitcli.preview("digits", quiet=True)
    assert seen._repr_html_().count("<img src=") == len(seen.figures) == 3
    seen.figures[0].unlink()
    assert seen._repr_html_().count("<img src=") == 2
    figure = tmp_path / "learning-rate.png"
    figure.write_bytes(b"picture")
    found = FoundRate(
        **dict.fromkeys(("dataset", "model", "changed_sizes", "recipe", "optimizer"), "any"),
        **dict.fromkeys(("lr", "configured", "least"), 0.1),
        settings={},
        diverged=None,
        points=(),
        figure=figure,
    )
    assert found._repr_png_() == b"picture"
    figure.unlink()
    assert found._repr_png_() is None


def test_a_map_of_a_bare_module_has_no_picture(run: vitcli.TrainResult) -> None:
    import torch

    assert vitcli.attention_map(vitcli.load_model(run).model, torch.zeros(1, 8, 8))._repr_png_() is None


def test_a_result_has_no_picture_of_another_run(run: vitcli.TrainResult, tmp_path: Path) -> None:
    for other in (replace(run, seconds=run.seconds + 1), replace(run, path=tmp_path / "gone")):
        assert other._repr_png_() is None
        assert "<img" not in other._repr_html_()


def test_a_cross_validation_shows_its_folds(run: vitcli.TrainResult, tmp_path: Path) -> None:
    paths = [Path(shutil.copytree(run.path, tmp_path / f"fold-{number}")) for number in (1, 2)]
    folds = [replace(run, run=f"folds/{path.name}", path=path) for path in paths]
    result = summed_up(folds)
    score = f"{100 * run.best.val_accuracy:.2f} ± 0.00 %"
    assert repr(result) == f"<FoldsResult {tmp_path}: 2 folds, validation accuracy {score}>"
    assert f'<td style="text-align: left">{score}</td>' in result._repr_html_()
    assert "folds/fold-2" in result._repr_html_()


def test_names_in_tables_stay_text_and_long_tables_are_cut() -> None:
    bad = Prediction(path=Path("<b>\x1b.png"), error="not an <image>")
    rows = [Prediction(path=Path(f"{number}.png"), classes=("<i>",), probabilities=(0.5,)) for number in range(60)]
    result = PredictResult(model="a<b", rows=(bad, *rows))
    html = result._repr_html_()
    assert "&lt;b&gt;\\x1b.png" in html
    assert "error: not an &lt;image&gt;" in html
    assert "&lt;i&gt;" in html
    assert "<i>" not in html
    assert "38.png" in html
    assert "39.png" not in html
    assert "and 21 more" in html
    assert repr(result) == "<PredictResult of a<b: 61 images, 1 could not be read>"
    assert "<th" not in html_table([("a", "b")])


def test_functions_take_what_the_command_line_takes(run: vitcli.TrainResult) -> None:
    with pytest.raises(vitcli.VitError, match=r"cat\.png must not be fetched"):
        vitcli.predict("https://127.0.0.1/cat.png", allow_urls=True, offline=True, output_dir=run.path.parent)
    with pytest.raises(vitcli.VitError, match="no unfinished run in experiments"):
        vitcli.resume()
    assert vitcli.load_model("best", output_dir=run.path.parent, quiet=True).name == "mine"
