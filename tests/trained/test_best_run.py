"""Which run is used without a name, and by the name best: the newest is never taken without a word about a better one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome
from vitcli.core.files import write_json
from vitcli.core.runs import Run
from vitcli.core.stored import read_json
from vitcli.trained.model_names import lasting_name

RunCli = Callable[..., Outcome]
COMMANDS = [
    ("predict", "IMAGE"),
    ("eval",),
    ("attention-map", "IMAGE"),
    ("export", "--format", "torchscript", "--overwrite"),
]


def copied(run: Path, folder: str, *, accuracy: float, ended: str, fingerprint: str = "digits") -> Path:
    """A copy of a run with another validation accuracy, which ended at another time."""
    path = Path("experiments") / folder
    shutil.copytree(run, path)
    fold = int(path.name.removeprefix("fold-")) if path.name.startswith("fold-") else 0
    Run(path).note(ended=ended, started=ended, fingerprint=fingerprint, fold=fold)
    metrics = read_json(path / "metrics.json")
    metrics["best"]["val_accuracy"] = accuracy
    write_json(path / "metrics.json", metrics)
    return path


@pytest.fixture
def runs(trained_run: Path) -> None:
    copied(trained_run, "good", accuracy=0.99, ended="2001")
    copied(trained_run, "other", accuracy=1.0, ended="2002", fingerprint="of other data")
    Run(copied(trained_run, "killed", accuracy=1.0, ended="2003")).note(status="running")
    copied(trained_run, "short", accuracy=0.5, ended="2004")


def command(words: tuple[str, ...], digit: Path) -> list[object]:
    return [digit if word == "IMAGE" else word for word in words]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("words", COMMANDS)
def test_of_a_better_run_on_the_same_data_is_told_and_it_is_called_best(
    run_cli: RunCli, digit: Path, words: tuple[str, ...]
) -> None:
    asked = command(words, digit)
    newest = run_cli(*asked)
    assert newest.code == 0, newest.err
    use = "`vit export best` exports it" if words[0] == "export" else "--model best takes it"
    better = f"good has a higher validation accuracy on the same data (99.00 %, not 50.00 %): {use}"
    assert f"model: the newest finished run, short (trained on digits; epoch 2, its last); {better}" in newest.err
    best = run_cli(*asked, *(["best"] if words[0] == "export" else ["--model", "best"]))
    assert best.code == 0, best.err
    assert "model: the best finished run on digits, good (epoch 2, its last); validation accuracy 99.00 %" in best.err


@pytest.mark.usefixtures("runs")
def test_runs_are_shown_and_compared_by_that_name_too(run_cli: RunCli) -> None:
    shown = run_cli("runs", "show", "best", "--json")
    assert json.loads(shown.out)["row"]["name"] == "good"
    assert "comparisons/good-vs-short/" in run_cli("runs", "compare", "best", "short").out


@pytest.mark.usefixtures("runs")
def test_the_newest_run_is_not_shown_without_a_word_about_a_better_one(run_cli: RunCli, trained_run: Path) -> None:
    better = (
        "good has a higher validation accuracy on the same data (99.00 %, not 50.00 %): `vit runs show best` shows it"
    )
    assert run_cli("runs", "show").err.startswith(f"run: the newest, short; {better}\n")
    shutil.copytree("experiments", "my runs")
    there = run_cli("runs", "show", "--output-dir", "my runs").err
    assert "`vit runs show best --output-dir 'my runs'` shows it" in there
    Run(Path("experiments/good")).note(ended="2005")  # it was resumed
    assert "short; good has a higher" in run_cli("runs", "show").err
    Run(Path("experiments/good")).note(started="2000", ended="2001")
    copied(trained_run, "best", accuracy=0.1, ended="2000")
    assert "`vit runs show good` shows it" in run_cli("runs", "show").err, "a run is called best"
    Run(copied(trained_run, "begun", accuracy=0.1, ended="2005")).note(status="running")
    assert run_cli("runs", "show").err.startswith("run: the newest, begun\n"), "it may still become the best"


@pytest.mark.usefixtures("runs")
def test_a_report_without_a_name_tells_of_a_better_run(run_cli: RunCli) -> None:
    said = run_cli("report").err
    assert "report: the newest finished run, short; good has a higher validation accuracy on the same data" in said
    assert "(99.00 %, not 50.00 %): `vit report best` reports on it" in said


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("words", [("--init-from", "best"), ("--teacher", "best"), ("--from-run", "short")])
def test_a_training_may_begin_with_the_best_run_or_learn_from_it(run_cli: RunCli, words: tuple[str, ...]) -> None:
    more = ("--init-from", "best") if "--from-run" in words else ("digits",)
    outcome = run_cli("train", *more, *words, "--epochs", "1", "--name", "new")
    assert outcome.code == 0, outcome.err
    stored = Run(Path("experiments/new")).config
    name = stored["teacher"]["name"] if "--teacher" in words else stored["run"]["init_from"]
    assert Path(name).resolve() == Path("experiments/good").resolve()


@pytest.mark.usefixtures("runs")
def test_nothing_is_told_of_worse_runs_and_a_run_may_be_called_best(
    run_cli: RunCli, digit: Path, trained_run: Path
) -> None:
    copied(trained_run, "newest", accuracy=0.99, ended="2005")
    assert "newest (trained on digits; epoch 2, its last)\n" in run_cli("predict", digit).err
    result = run_cli("predict", digit, "--model", "best", "--json")
    assert json.loads(result.out)["model"] == "newest"
    copied(trained_run, "best", accuracy=0.1, ended="2000")
    result = run_cli("predict", digit, "--model", "best", "--json")
    assert (json.loads(result.out)["model"], result.err) == ("best", "")


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("status", ["interrupted", "running", "failed"])
def test_a_newer_run_that_is_not_finished_is_named(
    run_cli: RunCli, digit: Path, trained_run: Path, status: str
) -> None:
    Run(copied(trained_run, "after all", accuracy=0.9, ended="2004")).note(status=status, started="9999")
    said = f"; the newer run after all is {status}: --model 'after all' takes it\n"
    assert said in run_cli("predict", digit).err
    Run(Path("experiments/after all")).best_checkpoint.unlink()
    assert "after all" not in run_cli("predict", digit).err, "there is nothing to take"


@pytest.mark.usefixtures("runs")
def test_folds_count_by_their_mean(run_cli: RunCli, digit: Path, trained_run: Path) -> None:
    copied(trained_run, "weak/fold-1", accuracy=1.0, ended="2005")
    copied(trained_run, "weak/fold-2", accuracy=0.9, ended="2006")
    better = "good has a higher validation accuracy on the same data (99.00 %, not 95.00 %)"
    newest = run_cli("predict", digit)
    assert f"model: the mean of 2 models, the newest cross-validation: weak/fold-1, weak/fold-2; {better}" in newest.err
    copied(trained_run, "weak/fold-3", accuracy=0.0, ended="2000")
    copied(trained_run, "strong/fold-1", accuracy=1.0, ended="2001")
    copied(trained_run, "strong/fold-2", accuracy=0.99, ended="2001")
    assert (
        "strong has a higher validation accuracy on the same data (99.50 %, not 63.33 %)"
        in run_cli("predict", digit).err
    )
    best = run_cli("predict", digit, "--model", "best")
    names = "the best cross-validation: strong/fold-1, strong/fold-2; validation accuracy 99.50 %"
    assert f"model: the mean of 2 models, {names}" in best.err
    single = run_cli("attention-map", digit, "--model", "best")
    assert "model: the best finished run on digits, strong/fold-1" in single.err


def test_runs_that_are_only_called_as_folds_are_not_averaged(run_cli: RunCli, digit: Path, trained_run: Path) -> None:
    for name in ("fold-1", "fold-2"):
        Run(copied(trained_run, name, accuracy=0.5, ended="2005")).note(fold=0)
    newest = run_cli("predict", digit)
    assert "the newest finished run, fold-" in newest.err


def test_the_list_of_images_of_other_runs_is_not_read(run_cli: RunCli, digit: Path, trained_run: Path) -> None:
    for name, accuracy in (("good", 0.99), ("newest", 0.5)):
        path = copied(trained_run, name, accuracy=accuracy, ended=f"200{len(name)}", fingerprint="digits")
        (path / "split.json").write_text("broken")
    assert "good has a higher validation accuracy on the same data" in run_cli("predict", digit).err


def test_a_name_means_the_same_wherever_it_is_used_later(trained_run: Path) -> None:
    for name in ("deit-tiny", "folder"):
        Path(name).mkdir()
    shutil.copytree(trained_run, Path("experiments") / "mine")
    Path("weights.pth").touch()
    names = {name: lasting_name(name, Path("experiments")) for name in ("deit-tiny", "mine", "nothing", "")}
    assert names == {name: name for name in names}
    for path in ("folder", "weights.pth", "experiments/mine"):
        assert lasting_name(path, Path("experiments")) == str(Path(path).resolve())


def test_best_without_a_run_is_an_error(run_cli: RunCli, digit: Path) -> None:
    outcome = run_cli("predict", digit, "--model", "best")
    assert outcome.code == 1
    assert "no finished run in experiments" in outcome.err
