"""Tables in a terminal of 60 or 80 columns: names are folded, prose is wrapped, and no number ever loses a digit."""

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome
from vitcli.attention.faithfulness import HIGHER_IS_BETTER
from vitcli.cli import console
from vitcli.cli.attention_trust import show_trust
from vitcli.cli.eval import _print_matrix
from vitcli.cli.wrapping import wrapped
from vitcli.core.config_files import configure, load_recipe, recipe_names
from vitcli.core.words import percent
from vitcli.explaining.scores import ImageScores, summarise
from vitcli.workflows.attention_trust import Trust

RunCli = Callable[..., Outcome]
LONG = "a-very-long-name-of-a-run-that-somebody-gave-to-an-experiment-of-theirs"
CLASSES = (
    "Bacterial Blight (CBB)",
    "Brown Streak Disease (CBSD)",
    "Green Mottle (CGM)",
    "Mosaic Disease (CMD)",
    "Healthy",
)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are no longer than in most terminals."""
    monkeypatch.setattr(console, "_UNLIMITED", 80)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("words", ["datasets", "models", "download", "recipes"])
def test_lists_fit_into_a_terminal_and_no_word_is_cut(
    run_cli: RunCli, words: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 1000)
    known = set(run_cli(words).out.split())
    monkeypatch.setattr(console, "_UNLIMITED", width)
    outcome = run_cli(words)
    assert outcome.code == 0
    assert max(map(len, outcome.out.splitlines())) <= width
    assert "…" not in outcome.out
    shown = {part for part in outcome.out.split() if not part.endswith((":", "-"))}
    cut = {part for part in shown - known if not any(name.endswith(f"-{part}") for name in known)}
    assert not cut


def test_short_names_are_broken_last(run_cli: RunCli) -> None:
    """The longest of them has a character less than the room for names."""
    table = run_cli("download").out
    assert "deit-base-distilled-384 " in table
    assert "384 pixels" in table


def test_names_of_data_sets_stay_whole_and_so_do_their_numbers(run_cli: RunCli) -> None:
    table = run_cli("datasets").out
    rows = json.loads(run_cli("datasets", "--json").out)
    for row in rows:
        (line,) = [line for line in table.splitlines() if line.startswith(f"{row['name']} ")]
        assert {f"{row[name]:,}" for name in ("classes", "train_images", "test_images", "download_mb")} <= {
            *line.split()
        }


def test_runs_with_long_names_show_all_of_their_numbers(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "experiments" / LONG
    shutil.copytree(trained_run, run)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "dataset": "a-rather-long-folder-of-photos-from-a-camera"}))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["best"]["val_accuracy"] = 1.0
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "evaluations").mkdir(exist_ok=True)
    (run / "evaluations" / "test.json").write_text('{"top1": 1.0}')
    table = run_cli("runs").out
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["run", "status", "epochs", "val", "test"]
    assert lines[1].count("100.00 %") == 2
    names, below = ([line for line in lines[1:] if line.startswith("  ") == is_below] for is_below in (False, True))
    assert "".join(line.split()[0] for line in names) == LONG
    model = f"{info['model']} (width 16, depth 1, num_heads 2, mlp_width 32)"
    facts = f"{info['started'][:10]}, a-rather-long-folder-of-photos-from-a-camera, {model}, recipe {info['recipe']}"
    assert " ".join(" ".join(below).split()) == facts


def test_predict_folds_paths_and_classes_and_keeps_probabilities(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path
) -> None:
    photo = tmp_path / ("folder-" * 12) / f"{'photo-' * 12}.png"
    photo.parent.mkdir()
    shutil.copy(digit, photo)
    outcome = run_cli("predict", photo, "--model", trained_run, "--top-k", "10")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = json.loads(run_cli("predict", photo, "--model", trained_run, "--top-k", "10", "--json").out)["rows"]
    assert [line[-8:].strip() for line in lines if line.endswith("%")] == [
        percent(share) for share in row["probabilities"]
    ]
    assert str(photo) in "".join(line.split()[0] for line in lines[1:])


@pytest.mark.parametrize(
    ("names", "headings"),
    [
        ([f"Cassava {name}" for name in CLASSES], "0 1 2 3 4"),
        (["cat", "dog"], "cat dog"),
        (["x" * 300, "y" * 300], "0 1"),
        ([f"class {index}" for index in range(10)], " ".join(map(str, range(10)))),
    ],
)
def test_the_columns_of_a_confusion_matrix_can_be_told_apart(
    names: list[str], headings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = [[1000 + 20 * row + column for column in range(len(names))] for row in range(len(names))]
    _print_matrix(names, tuple((true, at, count) for true, row in enumerate(counts) for at, count in enumerate(row)))
    first, *lines = capsys.readouterr().out.splitlines()
    assert max(map(len, (first, *lines))) <= 80
    assert first.split() == headings.split()
    found = [line for line in lines if re.search(r" \d{4}$", line)]
    assert [[*map(int, line.split()[-len(names) :])] for line in found] == counts
    if len(names) > 2:
        assert [line.split()[0] for line in found] == headings.split()
    assert all(word in " ".join(lines) for name in names[:5] for word in name.split() if len(name) < 80)


def test_in_a_terminal_that_is_too_narrow_for_a_table_rows_become_paragraphs_with_whole_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 30)
    rows = [("vit-with-a-long-name-001", "1,234,567", "100.00 %", ""), ("", "8", "1.00 %", "a remark")]
    console.print_table(("name", "one", "other", "why"), rows, numbers={1, 2}, below=("first", "second"))
    assert capsys.readouterr().out.splitlines() == [
        "vit-with-a-long-name-001",
        "  one: 1,234,567",
        "  other: 100.00 %",
        "  first",
        "  one: 8   other: 1.00 %",
        "  why: a remark",
        "  second",
    ]


def test_a_paragraph_that_begins_with_a_number_says_what_it_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 20)
    console.print_table(("batch", "library", "images/s"), [("1", "torchvision", "1,234")], numbers={0, 2})
    assert capsys.readouterr().out.splitlines() == ["batch 1", "  library:", "  torchvision", "  images/s: 1,234"]


def test_names_in_a_table_are_broken_after_hyphens_and_slashes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 36)
    rows = [("digits-vit-nano-patch4-001/fold-1", "finished", "99.72 %")]
    console.print_table(("run", "status", "val"), rows, numbers={2})
    assert capsys.readouterr().out.splitlines() == [
        "run                status        val",
        "digits-vit-nano-   finished  99.72 %",
        "patch4-001/fold-1",
    ]


def test_facts_that_have_no_room_beside_their_names_are_below_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 40)
    console.print_facts({"file": "runs/first/evaluations/test-predictions.csv"})
    console.print_facts({"near-duplicates within a split": "7 groups of images, 0.99 %"})
    assert capsys.readouterr().out.splitlines() == [
        "file  runs/first/evaluations/",
        "      test-predictions.csv",
        "near-duplicates within a split",
        "  7 groups of images, 0.99 %",
    ]


@pytest.mark.parametrize("width", [60, 80])
def test_no_score_of_attention_maps_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [*HIGHER_IS_BETTER, "sink_share"]
    values = {"grad-rollout": dict.fromkeys(names, 0.1234), "random": dict.fromkeys(names, 0.5678)}
    scores = summarise([ImageScores(image=at, target=0, scores=values) for at in range(3)])
    monkeypatch.setattr(console, "_UNLIMITED", width)
    trust = Trust(model="first", checkpoint=Path("first"), scores=scores, checks=None, stored=())
    show_trust(trust, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[1:] for line in lines if "0.568" in line] == [["0.568"] * 6 + ["56.78", "%"]]
    assert [line.split()[1:] for line in lines if "0.123" in line] == [["0.123"] * 6 + ["12.34", "%"]]
    (gain,) = [line for line in lines if " to +" in line]
    assert gain.split() == ["grad-rollout", "+0.000", "+0.000", "to", "+0.000"]


def test_the_note_below_the_models_is_filled_to_the_width(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    for width, lines in ((10_000, 1), (120, 2), (60, 5)):
        monkeypatch.setattr(console, "_UNLIMITED", width)
        assert len(run_cli("models").out.partition("\n\n")[2].splitlines()) == lines


def test_lines_are_broken_where_no_word_and_no_number_is_cut() -> None:
    for text, width, lines in [
        ("macro F1 97.77 %; recall 99.72 %", 30, ["macro F1 97.77 %; recall", "99.72 %"]),
        ("images of 224 x 224", 16, ["images of", "224 x 224"]),
        ("the mean is 99.5 ± 0.12 % now", 20, ["the mean is", "99.5 ± 0.12 % now"]),
        ("it took 3 min 05 s, and 12 GB", 12, ["it took", "3 min 05 s,", "and 12 GB"]),
        ("take 12 minutes", 8, ["take 12", "minutes"]),
        ("a rate of 1e-05 on 2026-01-02", 14, ["a rate of", "1e-05 on", "2026-01-02"]),
        ("/data/my-photos/train/x.png", 16, ["/data/my-photos/", "train/x.png"]),
        ("https://example.org/photos", 22, ["https://example.org/", "photos"]),
        ("self-supervised on all", 15, ["self-supervised", "on all"]),
        ("optim.adamw_lr", 10, ["optim.", "adamw_lr"]),
        ("optim.label_smoothing", 16, ["optim.", "label_smoothing"]),
        ("label_smoothing", 9, ["label_", "smoothing"]),
        ("benign 59, malignant 59", 20, ["benign 59,", "malignant 59"]),
        ("a b 1,200, left hand 7, c", 14, ["a b 1,200,", "left hand 7, c"]),
        ("all of 1,200 images", 12, ["all of 1,200", "images"]),
        ("malignant 1234567, b 2", 10, ["malignant", "1234567,", "b 2"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("first\nsecond line", 8, ["first", "second", "line"]),
        ("one: 1   two: 22   three: 3", 18, ["one: 1   two: 22", "three: 3"]),
    ]:
        assert wrapped(text, width).split("\n") == lines, text


@pytest.mark.parametrize("name", recipe_names())
def test_the_settings_of_a_recipe_are_a_file_for_config(run_cli: RunCli, name: str) -> None:
    shown = run_cli("recipes", name)
    assert shown.code == 0
    given = {"run": {"recipe": name}}  # so that no other recipe lies below
    assert configure(tomllib.loads(shown.out)) == configure(load_recipe(name), given)
    assert configure(tomllib.loads(shown.out.replace("# ", ""))) == configure(load_recipe(name), given)


def test_defaults_of_a_recipe_are_comments_and_json_has_sources(run_cli: RunCli) -> None:
    shown = run_cli("recipes", "digits")
    assert "# momentum = 0.9" in shown.out.splitlines()
    assert "lines that begin with # have the default" in shown.err
    settings = json.loads(run_cli("recipes", "digits", "--json").out)
    assert settings["optim"]["lr"] == {"value": 0.02, "source": "recipe digits"}
    wrong = run_cli("recipes", "digts")
    assert wrong.code == 2
    assert "digits" in wrong.err


def test_lines_in_a_pipe_are_not_filled_up(run_cli: RunCli, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_UNLIMITED", 10_000)
    lines = run_cli("runs", "--output-dir", trained_run.parent).out.splitlines()
    assert max(map(len, lines)) < 200
