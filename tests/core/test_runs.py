import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from vitcli import __version__
from vitcli.core.errors import Interrupted, RunError, TrainingError
from vitcli.core.run_search import all_runs, find_run, newest_finished, next_name, run_of_checkpoint
from vitcli.core.runs import Run, check_free, slug

SUMMARY = {"dataset": "digits", "model": "vit-nano-patch2", "recipe": "digits"}
ENDS: dict[str, BaseException | None] = {
    "finished": None,
    "interrupted": Interrupted("stopped", exit_code=130),
    "failed": ValueError(),
}


def create(path: Path, *, status: str = "", **more: Any) -> Run:
    run = Run.create(path, seed=7, versions={"torch": "9.9"}, summary=SUMMARY, **more)
    if status:
        end(run, ENDS[status])
    return run


def end(run: Run, error: BaseException | None = None) -> None:
    """The block that the run stands for ends, with an error or without."""
    with suppress(BaseException), run.recorded():
        if error:
            raise error


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def record(epoch: int, accuracy: float, *, is_best: bool) -> dict[str, Any]:
    figures = {"learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "seconds": 2.0}
    figures |= {"images_per_second": 9.0, "data_share": 0.1}
    return {"epoch": epoch, "val_accuracy": accuracy, "is_best": is_best, **figures}


def test_names_count_up_from_one(tmp_path: Path) -> None:
    assert next_name(tmp_path / "absent", "digits-vit") == "digits-vit-001"
    assert next_name(tmp_path, "digits-vit") == "digits-vit-001"
    (tmp_path / "digits-vit-001").mkdir()
    assert next_name(tmp_path, "digits-vit") == "digits-vit-002"


def test_the_next_name_follows_the_highest_that_is_taken(tmp_path: Path) -> None:
    for name in ("a-002", "a-011", "a-9999", "a-", "a-x", "ab-500", "a-500-b"):
        (tmp_path / name).mkdir()
    assert next_name(tmp_path, "a") == "a-10000"


def test_a_stem_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "axb-004").mkdir()
    assert next_name(tmp_path, "a.b") == "a.b-001"


def test_a_new_run_says_how_it_came_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/vit", "train", "digits"])
    run = create(tmp_path / "runs" / "one")
    stored = json.loads((tmp_path / "runs" / "one" / "run.json").read_text())
    assert stored == run.info
    assert stored["status"] == run.status == "running"
    assert stored["command"] == ["vit", "train", "digits"]
    assert stored["seed"] == 7
    assert stored["versions"]["vitcli"] == __version__
    assert stored["versions"]["torch"] == "9.9"
    assert stored.items() >= SUMMARY.items()
    assert stored["ended"] is None


def test_a_name_that_is_taken_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    create(tmp_path / "one").save_config({"kept": True})
    with pytest.raises(RunError, match="'one' exists already") as caught:
        create(tmp_path / "one")
    assert "--overwrite" in caught.value.hint
    assert Run(tmp_path / "one").config == {"kept": True}


def test_overwriting_replaces_the_whole_run(tmp_path: Path) -> None:
    create(tmp_path / "one").save_config({"kept": True})
    create(tmp_path / "one", overwrite=True)
    assert names_in(tmp_path / "one") == ["run.json"]


@pytest.mark.parametrize("file", ["run.json", "study.json", "pretraining.json"])
def test_a_run_that_holds_other_work_is_never_replaced(tmp_path: Path, file: str) -> None:
    create(tmp_path / "one")
    precious = tmp_path / "one" / "experiments" / "precious"
    precious.mkdir(parents=True)
    (precious / file).touch()
    with pytest.raises(RunError, match=rf"holds other runs too, for example {precious}"):
        create(tmp_path / "one", overwrite=True)
    assert (precious / file).exists()


def test_a_run_with_the_longest_name_is_replaced(tmp_path: Path) -> None:
    create(tmp_path / ("n" * 250)).save_config({"kept": True})
    create(tmp_path / ("n" * 250), overwrite=True)
    assert names_in(tmp_path / ("n" * 250)) == ["run.json"]


@pytest.mark.parametrize("name", ["n" * 300, "猫" * 100])
def test_a_folder_name_made_of_a_long_name_has_at_most_100_bytes(name: str) -> None:
    assert 97 <= len(slug(name).encode()) <= 100


@pytest.mark.parametrize("content", ['{"artifacts": []}', "{", "[]", '{"status": "done"}', "[" * 100_000])
def test_what_another_tool_calls_run_json_is_never_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "run.json").write_text(content)
    (tmp_path / "one" / "dear.jpg").touch()
    with pytest.raises(RunError, match="is not a run of vit, so it is not replaced"):
        create(tmp_path / "one", overwrite=True)
    assert names_in(tmp_path / "one") == ["dear.jpg", "run.json"]


@pytest.mark.parametrize("below", [".", "inner", "inner/deeper"])
def test_the_current_folder_and_those_above_it_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    create(tmp_path / "one").save_config({"kept": True})
    (tmp_path / "one" / below).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / "one" / below)
    for path in (tmp_path / "one", Path("/".join([".."] * len(Path(below).parts)) or ".", "..", "one")):
        with pytest.raises(RunError, match="never replaced"):
            create(path, overwrite=True)
    assert Run(tmp_path / "one").config == {"kept": True}


def test_a_link_to_a_run_is_never_replaced(tmp_path: Path) -> None:
    create(tmp_path / "one").save_config({"kept": True})
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with pytest.raises(RunError, match="is a link, which is never replaced"):
        create(tmp_path / "link", overwrite=True)
    assert Run(tmp_path / "one").config == {"kept": True}


def test_a_run_is_kept_if_the_new_one_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "one").save_config({"kept": True})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitcli.core.runs.write_json", full)
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "one", overwrite=True)
    assert Run(tmp_path / "one").config == {"kept": True}
    assert names_in(tmp_path) == ["one"]


def odd(kind: str, file: Path) -> None:
    """Put something odd in the place of a file."""
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_text({"list": "[]", "deep": '{"a":' * 9000, "broken": "{", "other": '{"best": 3}'}[kind])


@pytest.mark.parametrize("kind", ["pipe", "folder", "list", "deep", "broken", "other"])
@pytest.mark.parametrize("name", ["run.json", "metrics.json", "evaluations/test.json"])
def test_one_odd_run_is_named_and_hides_no_other(
    run_cli: Callable[..., Outcome], tmp_path: Path, name: str, kind: str
) -> None:
    for run in ("good", "odd"):
        create(tmp_path / "experiments" / run).note(status="finished", ended="2026")
    file = tmp_path / "experiments" / "odd" / name
    file.parent.mkdir(exist_ok=True)
    odd(kind, file)
    events: list[object] = []
    assert newest_finished(tmp_path / "experiments", events.append).name in {"good", "odd"}
    outcome = run_cli("runs")
    assert outcome.code == 0, outcome.err
    assert "good" in outcome.out
    assert str(file.relative_to(tmp_path)) in outcome.err
    assert ("skipped" in outcome.err) == (name == "run.json")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_is_no_run_is_never_replaced(tmp_path: Path, kind: str, overwrite: bool) -> None:  # noqa: FBT001 - pytest's
    path = tmp_path / "photos"
    if kind == "folder":
        path.mkdir()
        (path / "dear.jpg").touch()
    elif kind == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"is not a run|is a link"):
        create(path, overwrite=overwrite)
    assert path.is_symlink() or path.is_file() or names_in(path) == ["dear.jpg"]


def test_a_free_name_is_free(tmp_path: Path) -> None:
    check_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent is not a run") as caught:
        Run(tmp_path / "absent")
    assert "vit runs" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"not json"])
def test_a_broken_run_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json is not a file of vit, or is broken"):
        Run(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"status": "finished"}'])
def test_a_run_json_of_another_tool_is_passed_over_in_lists(tmp_path: Path, content: str) -> None:
    create(tmp_path / "good", status="finished")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "run.json").write_text(content)
    assert [run.name for run in all_runs(tmp_path)] == ["good"]
    assert newest_finished(tmp_path).name == "good"


def test_runs_are_listed_newest_first_without_broken_ones(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        create(tmp_path / name)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text('{"half')
    (tmp_path / "no-run").mkdir()
    (tmp_path / "a-file").touch()
    assert [run.name for run in all_runs(tmp_path)] == ["c", "a", "b"]


def test_where_there_is_no_folder_there_are_no_runs(tmp_path: Path) -> None:
    assert all_runs(tmp_path / "absent") == []


def test_the_newest_finished_run_is_the_one_that_ended_last(tmp_path: Path) -> None:
    first, second = create(tmp_path / "first"), create(tmp_path / "second")
    end(second)
    end(first)
    create(tmp_path / "third", status="failed")
    create(tmp_path / "fourth", status="interrupted")
    create(tmp_path / "fifth")
    assert newest_finished(tmp_path).name == "first"


def test_without_a_finished_run_the_hint_is_to_train(tmp_path: Path) -> None:
    create(tmp_path / "one")
    with pytest.raises(RunError, match="no finished run") as caught:
        newest_finished(tmp_path)
    assert "vit train" in caught.value.hint


def test_a_run_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    create(tmp_path / "one")
    assert find_run("one", tmp_path).name == "one"
    assert find_run(str(tmp_path / "one"), tmp_path / "elsewhere").name == "one"


def test_a_run_that_is_not_found_comes_with_the_nearest_name(tmp_path: Path) -> None:
    create(tmp_path / "digits-001")
    with pytest.raises(RunError, match="no run 'digit-001'") as caught:
        find_run("digit-001", tmp_path)
    assert "'digits-001'" in caught.value.hint


def test_a_checkpoint_knows_the_run_it_lies_in(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    found = run_of_checkpoint(run.best_checkpoint)
    assert found is not None
    assert found.name == "one"
    assert run_of_checkpoint(tmp_path / "elsewhere" / "checkpoints" / "best.safetensors") is None


def test_the_stored_best_is_the_last_record_that_was_best(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    assert run.metrics == {}
    epochs = [record(1, 0.5, is_best=True), record(2, 0.7, is_best=True), record(3, 0.6, is_best=False)]
    run.save_metrics(epochs)
    assert run.metrics["best"] == epochs[1]
    assert run.metrics["epochs"] == epochs


def test_without_a_best_record_none_is_stored(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    run.save_metrics([])
    assert run.metrics["best"] is None


def test_broken_metrics_are_named(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    (run.path / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json is broken"):
        _ = run.metrics


def test_a_run_that_ended_early_lacks_its_config(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"one has no config\.json"):
        _ = create(tmp_path / "one").config


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "finished"),
        (Interrupted("stopped", exit_code=143), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (TrainingError("the loss became nan"), "failed"),
        (ValueError(), "failed"),
        (SystemExit(3), "failed"),
    ],
)
def test_how_a_run_ended_is_stored(tmp_path: Path, error: BaseException | None, status: str) -> None:
    run = create(tmp_path / "one")
    end(run, error)
    stored = Run(tmp_path / "one")
    assert run.status == stored.status == status
    assert stored.info["ended"] > stored.info["started"]


def test_the_error_that_ended_a_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), create(tmp_path / "one").recorded():
        divmod(1, 0)


def test_the_test_accuracy_is_that_of_the_stored_evaluation(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    assert run.test_accuracy is None
    run.evaluation("test").parent.mkdir()
    run.evaluation("test").write_text('{"top1": 0.75}')
    assert run.test_accuracy == 0.75


def test_files_of_a_run_lie_where_the_docstring_says(tmp_path: Path) -> None:
    run = create(tmp_path / "one")
    below = [
        run.best_checkpoint,
        run.checkpoint("last"),
        run.checkpoint(3),
        run.figure("curves"),
        run.evaluation("val"),
    ]
    assert [path.relative_to(run.path).as_posix() for path in below] == [
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
        "checkpoints/epoch-0003.safetensors",
        "figures/curves.png",
        "evaluations/val.json",
    ]
