"""``vit tune``: trials within a budget, an honest answer, and a recipe."""

import json
import os
import re
import shlex
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib import util
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import optuna
import pytest
from PIL import Image

from tests.builders.processes import NEVER, Moment, exit_code, vit
from tests.builders.runs import plain
from tests.conftest import TINY, Outcome
from vitcli.core.config import DataConfig
from vitcli.core.config_files import configure, load_recipe, parse_assignments, settings_of
from vitcli.core.errors import FileError, Interrupted, ModelError, RunError, TrainingError, UsageError
from vitcli.core.events import Event, Note, SearchProgress, TrialEnded, Warned
from vitcli.core.runs import Run
from vitcli.core.search_limits import Finals, Limits
from vitcli.core.search_space import parse_search
from vitcli.training.finals import FinalRow, answer, best_finalist, recipe_settings, recipe_text, train_command
from vitcli.training.result import result_of
from vitcli.training.resumed_settings import stored_settings
from vitcli.training.search import _validated
from vitcli.training.study import Study, _repair
from vitcli.training.tune_plan import planned_finals
from vitcli.workflows.tune import TuneResult, plan_tuning, resume_tuning, tune

RunCli = Callable[..., Outcome]
SMALL: dict[str, dict[str, Any]] = {
    "data": {"val_fraction": 0.5},
    "model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32, "patch_init_std": 1e-7},
    "optim": {"epochs": 2, "batch_size": 8, "optimizer": "adamw", "warmup_epochs": 0, "keep": "last", "ema": False},
    "run": {"device": "cpu", "amp": "off", "recipe": "small-images"},
}
"""A model that sees nothing of an image before it has learned."""
SLOW: dict[str, dict[str, Any]] = {"optim": {"lr": 1e-9}}
"""A default that learns nothing: its accuracy is that of a guess, with any seed."""
FEW = Limits(trials=3, finalists=1, seeds=3)


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 dark and 60 light images, which a model learns to tell apart in an epoch."""
    return draw_shades(tmp_path_factory.mktemp("tuned") / "halves", 60)


def draw_shades(root: Path, count: int) -> Path:
    for name, darkest in (("dark", 10), ("light", 150)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), darkest + number).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def better(halves: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TuneResult, list[Event]]:
    """A search that starts from a default that learns nothing, and what was told; not to be changed."""
    folder, told = tmp_path_factory.mktemp("better"), list[Event]()
    where = {"data": {"name": str(halves), "dir": str(data_dir)}, "run": {"output_dir": str(folder)}}
    space = parse_search(["optim.lr=1e-9,0.01", "optim.label_smoothing=0..0.1"])
    return tune(SMALL, SLOW, where, space=space, limits=FEW, emit=told.append), told


class Enough(Exception):
    """The end of a test."""


def warned(told: list[Event]) -> str:
    return "\n".join(event.text for event in told if isinstance(event, Warned))


def notes(told: list[Event]) -> str:
    return "\n".join(event.text for event in told if isinstance(event, Note))


def test_a_better_trial_is_told_from_the_default(better: tuple[TuneResult, list[Event]], halves: Path) -> None:
    result, told = better
    first, *others = result.trials
    assert (first.number, first.is_default, first.settings["optim.lr"]) == (0, True, "1e-9")
    assert len(others) == 2
    default, finalist = result.finals
    assert (default.name, default.trial, default.difference) == ("default", None, None)
    assert finalist.settings["optim.lr"] == "0.01"
    assert finalist.interval
    assert 0 < finalist.interval[0] < finalist.val_accuracy - default.val_accuracy < finalist.interval[1]
    assert result.is_better
    assert result.answer.startswith("better than the default by ")
    assert result.answer.endswith(f"): trial {finalist.trial}")
    assert repr(result) == f"<TuneResult {result.path}: 3 trials, {result.answer}>"

    ended = [event for event in told if isinstance(event, TrialEnded)]
    assert [event.number for event in ended] == [0, 1, 2]
    assert "search: optim.lr 1e-9 or 0.01; optim.label_smoothing 0 to 0.1" in notes(told)
    assert "time: about " in notes(told)
    assert f"final 6 of 6: {finalist.name}/seed-45: " in notes(told)
    progress = [event for event in told if isinstance(event, SearchProgress)]
    assert {event.task.partition(" ")[0] for event in progress} == {"trial", "final"}
    assert all(0 <= event.share <= 1 for event in progress)
    assert str(halves) in Study.open(result.path).stored.dataset


def test_finals_have_fresh_seeds_and_weights_and_trials_have_no_weights(
    better: tuple[TuneResult, list[Event]],
) -> None:
    result, _ = better
    for trial in result.trials:
        run = Run(result.path / f"trial-{trial.number:04d}")
        assert (run.status, run.info["seed"]) == ("finished", 42)
        assert run.metrics["best"]["val_accuracy"] == trial.val_accuracy
        assert not any(run.path.rglob("*.safetensors"))
    for row in result.finals:
        runs = [Run(path) for path in sorted(row.path.glob("seed-*"))]
        assert [run.info["seed"] for run in runs] == [43, 44, 45]
        assert tuple(run.metrics["best"]["val_accuracy"] for run in runs) == row.val_accuracies
        assert all(run.best_checkpoint.exists() for run in runs)
        assert (row.path / "seeds.json").exists()
    held_out = [[Run(row.path / f"seed-{seed}").split for seed in (43, 44)] for row in result.finals]
    assert held_out[0] == held_out[1]  # paired
    assert held_out[0][0] != held_out[0][1]  # fresh images, too


def test_the_recipe_trains_what_the_finals_trained(
    better: tuple[TuneResult, list[Event]], halves: Path, data_dir: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    result, _ = better
    assert result.recipe_file == result.path / "recipe.toml"
    file = tmp_path / "my recipe.toml"
    shutil.copy(result.recipe_file, file)
    text = file.read_text()
    about = tomllib.loads(text)["about"]
    assert about["summary"] == "tuned for halves by `vit tune`"
    for words in ("# command: ", "3 with seed 42", "43, 44, 45", result.answer, result.finals[0].name):
        assert words in text
    assert about["command"] == f"vit train {halves} --data-dir {data_dir} --recipe ./recipe.toml"
    assert result.train_command == f"vit train {halves} --data-dir {data_dir} --recipe {result.recipe_file}"
    outcome = run_cli(
        "train",
        halves,
        "--recipe",
        "./my recipe.toml",
        "--seed",
        43,
        "--device",
        "cpu",
        "--amp",
        "off",
        "--name",
        "own",
    )
    assert outcome.code == 0, outcome.err
    own, final = (Run(path) for path in (Path("experiments/own"), result.finals[1].path / "seed-43"))
    ours, theirs = (stored_settings(run) for run in (own, final))
    assert (ours.data, ours.augment, ours.model) == (theirs.data, theirs.augment, theirs.model)
    assert ours.optim == replace(theirs.optim, min_images=0)  # the epochs are given
    assert own.metrics["best"]["val_loss"] == final.metrics["best"]["val_loss"]
    shown = run_cli("runs", "show", "own", "--json")
    assert json.loads(shown.out)["usual"] == f"recipe {file}"
    assert "lr = 0.01\n" in run_cli("recipes", file).out


def test_a_finished_search_answers_again_and_goes_on_if_asked_to(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    result, _ = better
    with pytest.raises(RunError, match="no unfinished study"):
        resume_tuning("", {"run": {"output_dir": str(result.path.parent)}})
    copy = shutil.copytree(result.path, tmp_path / "copy")
    again = resume_tuning(str(copy))
    assert (again.trials, again.answer) == (result.trials, result.answer)
    longer = resume_tuning(str(copy), trials=4)
    assert longer.trials[:3] == result.trials
    assert len(longer.trials) == 4


def test_no_better_than_the_default_is_an_answer(halves: Path) -> None:
    where = {"data": {"name": str(halves)}, "optim": {"epochs": 1}, "run": {"name": "same"}}
    space = parse_search(["optim.lr=1e-9,1e-10"])
    result = tune(SMALL, SLOW, where, space=space, limits=Limits(trials=3, finalists=2, seeds=2), emit=lambda _: None)
    assert not result.is_better
    assert result.answer.startswith("no better than the default")
    assert result.recipe_file is None
    assert not list(result.path.glob("*.toml"))


def test_trials_are_pruned_on_validation_images(halves: Path) -> None:
    """After five trials, those that are worse than the median are pruned; the first one ends this search."""
    pruned: list[TrialEnded] = []

    def stop(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.outcome:
            pruned.append(event)
            raise Enough

    space = parse_search(["optim.lr=1e-9,0.008,0.009,0.01", "optim.label_smoothing=0..0.1"])
    where = {"data": {"name": str(halves)}, "optim": {"lr": 0.01, "epochs": 3}, "run": {"name": "study"}}
    with pytest.raises(Enough):
        tune(SMALL, where, space=space, limits=Limits(trials=14, finalists=1, seeds=2), emit=stop)
    study = Study.open(Path("experiments/study"))
    *finished, row = study.rows
    assert len(finished) >= 5
    assert {each.state for each in finished} == {"finished"}
    assert row.state == "pruned"
    assert row.settings["optim.lr"] == "1e-9"
    assert row.epochs < 3
    run = Run(study.path / f"trial-{row.number:04d}")
    assert run.status == "interrupted"
    assert [record["val_accuracy"] for record in run.metrics["epochs"]][-1] == row.val_accuracy
    assert not any(run.path.rglob("*.safetensors"))
    assert [(event.number, event.outcome, event.epoch) for event in pruned] == [(row.number, "pruned", row.epochs)]


def test_settings_that_fail_are_counted(halves: Path) -> None:
    """A width that no number of heads divides, and a loss that is not finite."""
    told: list[Event] = []
    where = {"data": {"name": str(halves)}, "optim": {"lr": 0.01, "clip_grad": 0.0, "epochs": 1}}
    space = parse_search(["model.num_heads=2,3", "optim.lr=0.01,1e30"])
    result = tune(SMALL, where, space=space, limits=Limits(finalists=1, seeds=2), emit=told.append)
    failed = {row.number: row for row in result.trials if row.state == "failed"}
    reasons = {tuple(row.settings.values()): row.reason for row in failed.values()}
    assert {*reasons} == {("2", "1e30"), ("3", "0.01"), ("3", "1e30")}
    assert "loss became" in reasons["2", "1e30"]
    assert reasons["3", "0.01"] == "width 16 is not divisible by 3 heads"
    assert result.finals == ()
    assert (
        result.answer == "no better than the default: no other settings were trained to their end with every fresh seed"
    )
    assert all(row.val_accuracy is None for row in failed.values())
    ended = [event for event in told if isinstance(event, TrialEnded)]
    assert len(ended) == len(result.trials) == 4  # each combination once
    assert all((event.outcome.startswith("failed (")) == (event.number in failed) for event in ended)


def test_a_trial_that_does_not_fit_into_memory_is_counted(halves: Path) -> None:
    def run_out(event: Event) -> None:
        if isinstance(event, SearchProgress) and event.task == "trial 1":
            raise MemoryError
        if isinstance(event, SearchProgress) and event.task.startswith("final"):
            raise Enough

    where = {"data": {"name": str(halves)}, "optim": {"lr": 0.01, "epochs": 1}, "run": {"name": "study"}}
    space = parse_search(["optim.lr=0.01,0.02,0.03"])
    with pytest.raises(Enough):
        tune(SMALL, where, space=space, limits=Limits(finalists=1, seeds=2), emit=run_out)
    study = Study.open(Path("experiments/study"))
    assert [row.state for row in study.rows] == ["finished", "failed", "finished"]
    assert "there is not enough memory" in study.rows[1].reason
    assert Run(study.path / "trial-0001").status == "failed"


def test_a_default_that_fails_and_a_space_of_failures_end_the_search(halves: Path) -> None:
    where = {"data": {"name": str(halves)}, "optim": {"epochs": 1, "clip_grad": 0.0}}
    with pytest.raises(TrainingError, match=r"training fails with the default settings: .*loss became") as caught:
        tune(SMALL, where, {"optim": {"lr": 1e30}, "run": {"name": "a"}}, space=parse_search(["optim.lr=1e30,0.1"]))
    assert "vit train" in caught.value.hint
    with pytest.raises(TrainingError, match="the last 10 trials have failed, the last one: "):
        tune(SMALL, where, {"run": {"name": "b"}}, space=parse_search(["model.num_heads=3,5", "optim.lr=1..2"]))
    assert Study.open(Path("experiments/b")).stored.status == "failed"


def test_the_test_images_have_no_influence(tmp_path: Path) -> None:
    """With other labels of the test images, every number is the same."""
    folder = tmp_path / "splits"
    for split, count in (("train", 12), ("val", 8), ("test", 8)):
        draw_shades(folder / split, count)
    limits, space = Limits(trials=2, finalists=1, seeds=2), parse_search(["optim.lr=0.001..0.01"])
    results, told = [], list[Event]()
    for name in ("right", "wrong"):
        where = {"data": {"name": str(folder)}, "optim": {"epochs": 1}, "run": {"name": name}}
        results.append(tune(SMALL, where, space=space, limits=limits, emit=told.append))
        (folder / "test" / "dark").rename(folder / "aside")
        (folder / "test" / "light").rename(folder / "test" / "dark")
        (folder / "aside").rename(folder / "test" / "light")
    one, other = (
        [row.val_accuracies for row in each.finals] + [row.val_loss for row in each.trials] for each in results
    )
    assert one == other
    assert (
        "the finals are scored on the images that chose the finalists; `vit eval` scores them on test images"
        in notes(told)
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_search_that_is_killed_goes_on_as_if_nothing_had_happened(
    processes: ForkServerContext, halves: Path, data_dir: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    """In its third trial, and in a final run of the default."""
    words = ("tune", str(halves), *TINY, "--recipe", "small-images", "--val-fraction", "0.5", "--epochs", "1")
    words += ("--set", "optim.batch_size=8", "--trials", "3", "--finalists", "1", "--seeds", "2")
    words += ("--device", "cpu", "--data-dir", str(data_dir), "--name", "study")

    def live(*words: str, kill: Moment = NEVER) -> int | None:
        return exit_code(processes.Process(target=vit, args=(cut, words, kill)))

    cut = tmp_path / "cut"
    cut.mkdir()
    assert live(*words, kill=Moment("os.rename", 5, folder="trial-0002")) == -signal.SIGKILL
    path = cut / "experiments" / "study"
    assert Study.open(path).stored.status == "running"
    before = Study.open(path).rows
    assert len(before) == 2
    assert live("tune", "--resume", kill=Moment("os.rename", 5, folder="default")) == -signal.SIGKILL
    after = Study.open(path).rows
    assert (after[:2], len(after)) == (before, 3)
    assert live("tune", "--resume") == 0, (cut / "said.txt").read_text()

    outcome = run_cli(*words)
    assert outcome.code == 0, outcome.err
    whole = Path("experiments/study")
    assert [plain(asdict(row)) for row in Study.open(path).rows] == [
        plain(asdict(row)) for row in Study.open(whole).rows
    ]
    scores = [
        [json.loads(file.read_text())["best"]["val_loss"] for file in sorted(folder.rglob("seed-*/metrics.json"))]
        for folder in (path, whole)
    ]
    assert len(scores[0]) == 4
    assert scores[0] == scores[1]


@pytest.mark.parametrize(("moment", "ended"), [("in a trial", {1}), ("at its end", {1, 2}), ("between trials", {2})])
def test_ctrl_c_loses_nothing(
    better: tuple[TuneResult, list[Event]], halves: Path, data_dir: Path, tmp_path: Path, moment: str, ended: set[int]
) -> None:
    """At the end of the last epoch of a trial, its training does not look at the request any more."""

    def press(event: Event) -> None:
        is_in_trial = isinstance(event, SearchProgress) and event.task == "trial 1"
        moments = {
            "in a trial": is_in_trial,
            "at its end": is_in_trial and isinstance(event, SearchProgress) and event.epoch == 2,
            "between trials": isinstance(event, TrialEnded) and event.number == 1,
        }
        if moments[moment]:
            os.kill(os.getpid(), signal.SIGINT)

    def press_in_finals(event: Event) -> None:
        if isinstance(event, SearchProgress) and event.task.startswith("final"):
            os.kill(os.getpid(), signal.SIGINT)

    result, _ = better
    where = {"data": {"name": str(halves), "dir": str(data_dir)}, "run": {"output_dir": str(tmp_path)}}
    space = parse_search(["optim.lr=1e-9,0.01", "optim.label_smoothing=0..0.1"])
    with pytest.raises(Interrupted, match="stopped by Ctrl-C") as caught:
        tune(SMALL, SLOW, where, space=space, limits=FEW, emit=press)
    assert caught.value.exit_code == 130
    study = tmp_path / "halves-tune-001"
    assert caught.value.hint == f"`vit tune --resume {study}` continues"
    assert Study.open(study).stored.status == "interrupted"
    assert len(Study.open(study).rows) in ended
    with pytest.raises(Interrupted, match="stopped by Ctrl-C"):
        resume_tuning("", {"run": {"output_dir": str(tmp_path)}}, emit=press_in_finals)
    assert [plain(asdict(row)) for row in Study.open(study).rows] == [plain(asdict(row)) for row in result.trials]
    if moment == "in a trial":  # from here on, all go the same way
        again = resume_tuning("", {"run": {"output_dir": str(tmp_path)}})
        assert again.trials == tuple(Study.open(study).rows)
        assert again.answer == result.answer


def test_one_process_at_a_time_searches(better: tuple[TuneResult, list[Event]], tmp_path: Path) -> None:
    result, _ = better
    copy = shutil.copytree(result.path, tmp_path / "copy")
    with Study.open(copy).alone(), pytest.raises(RunError, match="another process searches in"):
        resume_tuning(str(copy))


def test_what_another_process_writes_is_left_alone(better: tuple[TuneResult, list[Event]], tmp_path: Path) -> None:
    result, _ = better
    copy = shutil.copytree(result.path, tmp_path / "copy")
    journal, lock = copy / "optuna.log", copy / "optuna.log.lock"
    lock.touch()
    with journal.open("a") as file:
        file.write('{"op_code": 4, "tri')
    before = journal.read_bytes(), (copy / "study.json").read_bytes()
    with Study.open(copy).alone(), pytest.raises(RunError, match="another process searches in"):
        resume_tuning(str(copy), minutes=120)
    assert (journal.read_bytes(), (copy / "study.json").read_bytes()) == before
    assert lock.exists()


def test_no_recipe_is_replaced(better: tuple[TuneResult, list[Event]], tmp_path: Path) -> None:
    result, _ = better
    copy, told = shutil.copytree(result.path, tmp_path / "copy"), list[Event]()
    recipe = copy / "recipe.toml"
    recipe.write_text("# mine\n" + recipe.read_text())
    mine = recipe.read_text()
    again = resume_tuning(str(copy), emit=told.append)
    assert (again.recipe_file, recipe.read_text()) == (recipe, mine), "only a comment is new"
    recipe.write_text(mine.replace("lr = 0.01", "lr = 0.02"))
    mine = recipe.read_text()
    again = resume_tuning(str(copy), emit=told.append)
    assert (again.recipe_file, recipe.read_text()) == (copy / "recipe-2.toml", mine)
    assert again.recipe_file
    assert tomllib.loads(again.recipe_file.read_text())["about"]["command"].endswith("--recipe ./recipe-2.toml")
    assert f"the recipe is in {copy / 'recipe-2.toml'}, because {recipe} has other settings" in warned(told)
    assert resume_tuning(str(copy)).recipe_file == again.recipe_file, "it is there already"


def test_an_answer_is_not_lost_if_the_recipe_cannot_be_written(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    result, _ = better
    copy, told = shutil.copytree(result.path, tmp_path / "copy"), list[Event]()
    (tmp_path / "file").touch()
    study = Study.open(copy)
    study.stored.output = str(tmp_path / "file" / "best.toml")
    study.save()
    again = resume_tuning(str(copy), emit=told.append)
    assert (again.answer, again.recipe_file) == (result.answer, copy / "recipe.toml")
    assert "best.toml cannot be written" in warned(told)


def test_a_recipe_has_no_passwords(better: tuple[TuneResult, list[Event]]) -> None:
    result, _ = better
    address = "https://me:hunter2@host.example/w.safetensors"
    config = configure(SMALL, {"data": {"name": "digits"}, "run": {"init_from": address}})
    text = recipe_text("r.toml", config, result.finals, facts=[f"command: vit tune --init-from {address}"], seeds=[1])
    assert "hunter2" not in text
    assert tomllib.loads(text)["run"]["init_from"] == "https://host.example/w.safetensors"


def test_finals_are_scored_on_images_that_are_counted_once(better: tuple[TuneResult, list[Event]]) -> None:
    result, _ = better
    runs = [Run(path) for path in sorted(result.finals[0].path.glob("seed-*"))]
    names = [set((run.split or {})["held_out"]["val"]) for run in runs]
    assert _validated([result_of(run) for run in runs]) == len(set.union(*names)) < sum(map(len, names))


def test_weights_that_are_gone_end_the_search(better: tuple[TuneResult, list[Event]], halves: Path) -> None:
    """They say nothing about the settings of a trial."""
    shutil.copy(Run(better[0].finals[0].path / "seed-43").best_checkpoint, "w.safetensors")
    where = {"data": {"name": str(halves)}, "run": {"name": "mine", "init_from": "w.safetensors"}}

    def remove(event: Event) -> None:
        if isinstance(event, TrialEnded):
            Path("w.safetensors").unlink()

    with pytest.raises(ModelError, match="no such file: "):
        tune(SMALL, where, limits=FEW, emit=remove)
    study = Study.open(Path("experiments/mine"))
    assert study.config.run.init_from == str(Path("w.safetensors").resolve()), "it can be resumed from any folder"
    assert [row.state for row in study.rows] == ["finished"]


def test_half_a_line_of_the_journal_and_its_lock_are_removed(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    """As a disk that was full leaves them."""
    result, _ = better
    copy = shutil.copytree(result.path, tmp_path / "copy")
    journal = copy / "optuna.log"
    Path(f"{journal}.lock").touch()
    with journal.open("a") as file:
        file.write('{"op_code": 4, "tri')
    study = Study.open(copy)
    assert tuple(study.rows) == result.trials
    study.optuna_study.ask()  # writes
    assert tuple(Study.open(copy).rows) == result.trials
    journal.write_text("not a journal\n" * 2)
    with pytest.raises(RunError, match="is broken"):
        _ = Study.open(copy).rows
    journal.write_bytes(b"x")
    _repair(journal)
    assert journal.read_bytes() == b""


def test_the_study_opens_with_optuna_alone(better: tuple[TuneResult, list[Event]]) -> None:
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    result, _ = better
    storage = JournalStorage(JournalFileBackend(str(result.path / "optuna.log")))
    study = optuna.load_study(study_name="vit", storage=storage)
    assert study.best_value == max(row.val_accuracy or 0 for row in result.trials)


def test_a_budget_ends_the_trials_before_the_finals(halves: Path) -> None:
    where = {"data": {"name": str(halves)}}
    with pytest.raises(TrainingError, match="too few: a trial takes about") as caught:
        plan_tuning(SMALL, where, limits=Limits(minutes=1e-5))
    assert "--minutes " in caught.value.hint
    plan = plan_tuning(SMALL, where, limits=Limits(minutes=10, trials=5))
    assert plan.trial_seconds
    assert plan.trials == int(600 / plan.trial_seconds) - 9
    assert plan.has_default
    assert repr(plan).startswith("<TunePlan for halves: ")
    assert not Path("experiments").exists()


def test_the_plan_has_the_finals_that_the_budget_holds() -> None:
    """A trial takes a minute."""
    assert planned_finals(Limits(minutes=12), 60.0, has_default=True) == Finals(finalists=2, seeds=3)
    assert planned_finals(Limits(minutes=11), 60.0, has_default=True) == Finals(finalists=1, seeds=3)
    assert planned_finals(Limits(minutes=7), 60.0, has_default=True) == Finals(finalists=1, seeds=2)
    assert planned_finals(Limits(minutes=7, seeds=5), 60.0, has_default=True) == Finals(finalists=1, seeds=5)
    assert planned_finals(Limits(minutes=1), None, has_default=True) == Finals(finalists=2, seeds=3)
    with pytest.raises(
        TrainingError, match="5 min are too few: a trial takes about 1 min 00 s, and there are 4"
    ) as caught:
        planned_finals(Limits(minutes=5), 60.0, has_default=True)
    assert caught.value.hint.startswith("--minutes 6 holds these, --minutes 19 holds ten trials and 9 final trainings;")


def without_finals(study: Path, copy: Path, **changes: Any) -> Path:
    """Copy a study as it was before its finals, in which every trial took ten seconds, and with no time used."""
    shutil.copytree(
        study, copy, ignore=lambda _, names: [name for name in names if name.startswith(("default", "final"))]
    )
    journal = (copy / "optuna.log").read_text()
    (copy / "optuna.log").write_text(re.sub(r'"seconds":[0-9.e-]+', '"seconds":10.0', journal))
    file = json.loads((copy / "study.json").read_text())
    changes = {"final_finalists": 0, "final_seeds": 0, "seconds": 0.0, "status": "interrupted"} | changes
    (copy / "study.json").write_text(json.dumps(file | changes))
    return copy


def test_fewer_finals_are_trained_if_the_budget_holds_no_more(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    """Four final trainings of ten seconds fit into 50 seconds, six do not."""
    copy, told = without_finals(better[0].path, tmp_path / "copy", seeds=None, minutes=50 / 60), list[Event]()
    result = resume_tuning(str(copy), emit=told.append)
    assert [len(row.val_accuracies) for row in result.finals] == [2, 2]
    assert (
        "finals: 4 final trainings (the default and 1 finalist, 2 seeds each) take about 40.0 s;"
        " 0.833333 min do not hold 6"
    ) in notes(told)
    assert Study.open(copy).stored.finals == Finals(finalists=1, seeds=2)
    again = resume_tuning(str(copy))
    assert again.finals == result.finals


def test_a_budget_without_finals_ends_the_search_with_the_minutes_to_type(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    copy = without_finals(better[0].path, tmp_path / "copy", minutes=0.5)
    with pytest.raises(TrainingError, match=r"0.5 min are too few: .* are used, and 6 final trainings") as caught:
        resume_tuning(str(copy))
    assert caught.value.exit_code == 1
    assert caught.value.message.endswith("take about 1 min 00 s; --minutes 2 is enough")
    assert caught.value.hint == f"`vit tune --resume {copy} --minutes 2` continues"
    assert not (copy / "default").exists()
    assert len(Study.open(copy).rows) == 3


def test_given_numbers_are_kept_and_the_excess_is_told_before_it_begins(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    copy = without_finals(better[0].path, tmp_path / "copy", minutes=50 / 60)

    def stop(event: Event) -> None:
        if isinstance(event, Warned) and "more than" in event.text:
            raise Enough(event.text)

    words = r"6 final trainings .* take about 1 min 00 s, so the search takes about 1 min 0\d s, more than 0\.8\d* min"
    with pytest.raises(Enough, match=words) as caught:
        resume_tuning(str(copy), emit=stop)
    assert str(caught.value).endswith("; you gave --finalists 1 and --seeds 3; Ctrl-C stops the search")
    assert not (copy / "default").exists()


def test_no_time_is_left_for_another_trial_once_the_budget_is_used(
    better: tuple[TuneResult, list[Event]], tmp_path: Path
) -> None:
    result, _ = better
    copy = shutil.copytree(result.path, tmp_path / "copy")
    again = resume_tuning(str(copy), trials=0, minutes=result.seconds / 60)
    assert again.trials == result.trials


@pytest.mark.parametrize(
    ("layer", "message", "hint"),
    [
        (
            {"run": {"recipe": "cifar10-classic"}},
            "no validation images but the test images",
            "--set data.val_split=auto",
        ),
        ({"data": {"folds": 2}}, "not folds or seeds", "leave out"),
        ({"run": {"seeds": 2}}, "not folds or seeds", "leave out"),
        ({"run": {"devices": 2}}, "a search uses one device", "leave it out"),
        ({"run": {"name": "x", "overwrite": True}}, "a study is never replaced", "--name"),
        ({"run": {"recipe": "lost.toml"}}, "no such recipe file", "--recipe a name of `vit recipes` or a TOML file"),
    ],
)
def test_what_cannot_be_searched_is_refused(halves: Path, layer: Any, message: str, hint: str) -> None:
    with pytest.raises((FileError, UsageError)) as caught:
        tune({"data": {"name": str(halves)}}, SMALL, layer)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not Path("experiments").exists()


def test_a_recipe_has_only_what_belongs_to_the_settings() -> None:
    config = configure(
        load_recipe("finetune"), {"data": {"name": "x", "labels": "y", "val_fraction": 0.2}, "optim": {"min_images": 5}}
    )
    own = configure({"run": {"init_from": "deit-tiny", "seed": 3}, "model": {"name": ""}}, settings_of(config))
    table = recipe_settings(own)
    assert table["data"] == {"val_fraction": 0.2}
    assert "min_images" not in table["optim"]
    assert table["optim"]["epochs"] == 10


@pytest.mark.parametrize(
    ("difference", "interval", "words"),
    [
        (0.0, (-0.327, 0.327), "no better than the default, as far as 2 seeds can tell: trial 3"),
        (-0.01, (-0.2, 0.18), "no better than the default, as far as 2 seeds can tell: trial 3"),
        (0.01, (-0.18, 0.2), "no better than the default, as far as 2 seeds can tell: trial 3"),
        (-0.2, (-0.3, -0.1), "no better than the default: trial 3"),
        (0.2, (0.1, 0.3), "better than the default by 20.0 points (10.0 to 30.0): trial 3"),
    ],
)
def test_the_answer_says_so_if_few_seeds_cannot_tell(
    difference: float, interval: tuple[float, float], words: str
) -> None:
    scores = (0.5 + difference, 0.5 + difference)
    row = FinalRow(
        name="final-0003",
        path=Path("final-0003"),
        trial=3,
        settings={},
        val_accuracies=scores,
        val_accuracy=scores[0],
        difference=difference,
        interval=interval,
    )
    assert answer(row).startswith(words)


def test_the_command_of_a_recipe_names_all_that_the_data_need(monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataConfig(
        name="/my pics",
        labels="/t.csv",
        image_column="file",
        label_column="kind",
        label_map="/m.json",
        on_bad_image="skip",
        value_range=(0.0, 4095.0),
        dir="/store",
    )
    command = train_command(data, "./recipe.toml")
    assert command == (
        "vit train '/my pics' --labels /t.csv --image-column file --label-column kind --label-map /m.json"
        " --data-dir /store --on-bad-image skip --set 'data.value_range=[0.0, 4095.0]' --recipe ./recipe.toml"
    )
    typed = shlex.split(command)
    assert configure(parse_assignments([typed[typed.index("--set") + 1]])).data.value_range == (0.0, 4095.0)
    monkeypatch.setenv("VIT_DATA_DIR", "/store")
    assert train_command(DataConfig(name="digits", dir="/store"), "r.toml") == "vit train digits --recipe r.toml"


def test_without_finalists_the_answer_is_no() -> None:
    assert (
        answer(best_finalist(()))
        == "no better than the default: no other settings were trained to their end with every fresh seed"
    )


def test_without_optuna_the_error_says_what_to_type(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, halves: Path
) -> None:
    found = util.find_spec
    monkeypatch.setattr("vitcli.training.study.find_spec", lambda name: None if name == "optuna" else found(name))
    outcome = run_cli("tune", halves)
    assert outcome.code == 1
    assert outcome.err == "error: tuning needs Optuna, which is not installed\nhint: uv sync --extra tune\n"


def test_warnings_are_told_once(better: tuple[TuneResult, list[Event]]) -> None:
    _, told = better
    warned = [event.text for event in told if isinstance(event, Warned)]
    assert len(warned) == len({*warned})
    assert any(
        text.startswith("48 validation images are few to choose settings by: one of them is 2.1 points;")
        for text in warned
    )
