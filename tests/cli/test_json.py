"""``--json``: one document on stdout, a result or an error, as the published schema describes it."""

import errno
import json
import re
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.builders.schemas import check_document, command_in, families, results
from tests.conftest import Outcome
from vitcli.cli.app import main
from vitcli.cli.console import print_error, print_json
from vitcli.core.errors import Interrupted, VitError
from vitcli.core.runs import Run
from vitcli.training.result import result_of

RunCli = Callable[..., Outcome]


@pytest.mark.usefixtures("short_peak")
def test_every_command_prints_what_its_schema_says(
    run_cli: RunCli, trained_run: Path, digit: Path, tiny: tuple[str, ...], data_dir: Path, tmp_path: Path
) -> None:
    """``run_cli`` checks each document, here and in all other tests; the files of a schema are read, not made."""
    runs, model = ("--output-dir", trained_run.parent), ("--model", trained_run)
    commands: tuple[tuple[Any, ...], ...] = (
        *(("models",), ("datasets",), ("recipes",), ("recipes", "digits"), ("runs", *runs), ("env",)),
        *(("download",), ("download", "digits"), ("preview", "digits"), ("check-labels", "digits")),
        *(("train", "digits", *tiny, "--dry-run"), ("tune", "digits", *tiny, "--dry-run")),
        ("pretrain", "digits", *tiny, "--epochs", "1"),
        *(("predict", digit, *model), ("predict", digit, tmp_path, *model)),
        ("eval", *model, "--data-dir", data_dir),
        ("attention-map", digit, *model, "--output", tmp_path / "maps"),
        ("attention-map", digit, *model, "--output", tmp_path / "maps", "--score", "--method", "raw"),
        ("export", trained_run, "--format", "torchscript", "--output", tmp_path / "model.pt"),
        ("bench", trained_run, "--seconds", "0.001", "--rounds", "1", "--batch-size", "1"),
    )
    for name in ("one", "two"):
        shutil.copytree(trained_run, tmp_path / "experiments" / name)
    commands += (
        *(("runs", "show", "one"), ("runs", "best"), ("runs", "compare", "one", "two"), ("runs", "tag", "one", "mine")),
        ("report", "one", "two", "--data-dir", data_dir),
        *(("runs", "rename", "one", "three"), ("runs", "delete", "three", "--yes")),
    )
    (tmp_path / "broken.png").write_text("no image")
    codes = {words: run_cli(*words, "--json").code for words in commands}
    assert {words for words, code in codes.items() if code} == {("predict", digit, tmp_path, *model)}
    assert {"error", *(command_in(list(map(str, words))) for words in commands)} == {*results()}


def test_the_result_of_a_training_is_what_its_schema_says(
    trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_json(result_of(Run(trained_run)))
    assert check_document("train", capsys.readouterr().out)["run"] == "shared"


def test_a_document_that_differs_from_the_schema_is_noticed() -> None:
    right = {"error": {"code": "run", "message": "what", "hint": ""}}
    check_document("runs", json.dumps(right))
    for wrong in ({"code": 1}, {"more": "than it has"}):
        with pytest.raises(AssertionError, match="vit runs --json"):
            check_document("runs", json.dumps({"error": right["error"] | wrong}))
    with pytest.raises(json.JSONDecodeError):
        check_document("runs", json.dumps([]) * 2)


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        ("train digits --set optim.lrr=1", "usage", 2),
        ("predict lost.jpg", "data", 1),
        ("predict digit.png --model weights.safetensors", "model", 1),
        ("eval --model nobody", "run", 1),
        ("predict digit.png --device gpu", "usage", 2),
        ("train digits TINY --lr 1e30 --device cpu", "training", 1),
        ("eval --modle nobody", "usage", 2),
        ("eval --batch-size none", "usage", 2),
        ("predict", "usage", 2),
        ("evall", "usage", 2),
    ],
)
def test_an_error_is_a_document_too(
    run_cli: RunCli, tiny: tuple[str, ...], digit: Path, words: str, code: str, exit_code: int
) -> None:
    Path("digit.png").write_bytes(digit.read_bytes())
    Path("weights.safetensors").write_text("none")
    outcome = run_cli(*words.replace("TINY", " ".join(tiny)).split(), "--json")
    error = json.loads(outcome.out)["error"]
    assert (error["code"], outcome.code) == (code, exit_code)
    assert error["hint"]
    assert error["message"].split()[0] in outcome.err  # people read it too
    assert "{" not in outcome.err


@pytest.mark.parametrize("family", families())
def test_every_family_of_errors_can_be_printed(family: type[VitError], capsys: pytest.CaptureFixture[str]) -> None:
    error = family("what", hint="next", exit_code=143) if family is Interrupted else family("what", hint="next")
    print_error(error)
    printed = check_document("train", capsys.readouterr().out)
    assert printed == {"error": {"code": family.code, "message": "what", "hint": "next"}}


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (OSError(errno.ENOSPC, "No space left on device", "/disk/file"), "error", 1),
        (MemoryError(), "error", 1),
    ],
)
def test_what_ends_a_command_from_outside_is_a_document(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, fault: BaseException, code: str, exit_code: int
) -> None:
    monkeypatch.setattr(metadata, "version", _raising(fault))
    outcome = run_cli("env", "--json")
    assert (json.loads(outcome.out)["error"]["code"], outcome.code) == (code, exit_code)
    assert run_cli("env").err.strip() == outcome.err.strip()


def test_a_mistake_of_ours_is_a_document_and_a_traceback_that_asks_for_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "version", _raising(TypeError("not a number")))
    monkeypatch.setattr(sys, "argv", ["vit", "env", "--json"])
    with pytest.raises(TypeError, match="not a number") as caught:
        main()
    error = check_document("env", capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == ("internal", "TypeError: not a number")
    assert [error["hint"]] == caught.value.__notes__
    assert "`vit env`" in error["hint"]


def test_debugging_leaves_stdout_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIT_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["vit", "eval", "--model", "nobody", "--json"])
    with pytest.raises(VitError, match="nobody"):
        main()
    printed = capsys.readouterr()
    assert check_document("eval", printed.out)["error"]["code"] == "run"
    assert re.match("error: 'nobody'", printed.err)


def test_an_image_may_be_called_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """After ``--``, the word is a name; and without the option, stdout stays empty if a command fails."""
    monkeypatch.setattr(sys, "argv", ["vit", "predict", "--", "--json"])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--json" in printed.err


def _raising(fault: BaseException) -> Callable[..., Any]:
    def fail(*_args: Any) -> Any:
        raise fault

    return fail
