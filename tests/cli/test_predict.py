"""Where ``vit predict`` takes images from, a list or web addresses, and where its rows go."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Outcome
from tests.servers.files import serving
from vitcli.core.errors import DataError
from vitcli.data import image_addresses
from vitcli.data.image_files import image_files
from vitcli.workflows.predict import Prediction

RunCli = Callable[..., Outcome]


@pytest.fixture
def mixed(shapes: Path, tmp_path: Path) -> Path:
    """A folder of ten images, one that is broken, and two files that are none."""
    folder = tmp_path / "mixed"
    shutil.copytree(shapes / "left", folder)
    (folder / "004-bad.png").write_text("no image")
    for name in ("notes.txt", "more.txt", "table.csv"):
        (folder / name).write_text("text")
    return folder


def test_the_last_line_counts_what_was_predicted_what_failed_and_what_was_passed_over(
    run_cli: RunCli, trained_run: Path, mixed: Path
) -> None:
    counts = "10 predicted, 1 could not be read (see {}), passed over: 2 .txt, 1 .csv"
    outcome = run_cli("predict", mixed, "--model", trained_run, "--csv", "rows.csv")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == counts.format("column error") + "; written: rows.csv"
    assert run_cli("predict", mixed, "--model", trained_run).err.splitlines()[-1] == counts.format("the errors")
    result = json.loads(run_cli("predict", mixed, "--model", trained_run, "--json").out)
    assert result["passed_over"] == {".txt": 2, ".csv": 1}
    (mixed / "004-bad.png").unlink()
    outcome = run_cli("predict", mixed, "--model", trained_run, "--csv", "rows.csv")
    assert outcome.code == 0
    assert outcome.err.splitlines()[-1] == "10 predicted, passed over: 2 .txt, 1 .csv; replaced: rows.csv"
    assert run_cli("predict", mixed, "--model", trained_run).err.endswith("10 predicted, passed over: 2 .txt, 1 .csv\n")


def test_a_list_of_paths_is_read_from_stdin_and_rows_are_written_to_stdout(
    run_cli: RunCli, trained_run: Path, digit: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = mixed / os.fsdecode(b"caf\xe9 [1].png")
    shutil.copy(mixed / "000.png", strange)
    listed = b"\n".join(os.fsencode(path) for path in (strange, mixed / "004-bad.png")) + b"\r\n\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    outcome = run_cli("predict", digit, "-", mixed / "001.png", "--model", trained_run, "--csv", "-")
    assert outcome.code == 1
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [Path(row["path"]).name for row in rows] == [digit.name, strange.name, "004-bad.png", "001.png"]
    assert [bool(row["class"]) for row in rows] == [True, True, False, True]
    assert outcome.err.splitlines()[-1] == "3 predicted, 1 could not be read (see column error)"
    assert not Path("-").exists()


def test_a_missing_image_of_a_list_has_a_row_and_repeated_images_are_counted(
    run_cli: RunCli, trained_run: Path, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*lines: object) -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "buffer", io.BytesIO("\n".join(map(str, lines)).encode()), raising=False)
        return run_cli("predict", "-", "--model", trained_run, "--csv", "-")

    outcome = read(mixed / "000.png", "gone.jpg", mixed / "001.png", mixed / "000.png", "gone.jpg")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [(Path(row["path"]).name, row["error"]) for row in rows] == [
        ("000.png", ""),
        ("gone.jpg", "no such image: gone.jpg"),
        ("001.png", ""),
    ]
    assert outcome.code == 1
    assert "2 images are repeated: each image has one row" in outcome.err
    assert outcome.err.splitlines()[-1] == "2 predicted, 1 could not be read (see column error)"
    assert read("gone.jpg", "https://127.0.0.1/digit.png").out == ""  # --allow-urls is missing


def test_a_missing_image_that_was_typed_has_a_row_too_unless_all_are_missing(
    run_cli: RunCli, trained_run: Path, mixed: Path
) -> None:
    outcome = run_cli("predict", mixed / "000.png", "gone.jpg", "no*.png", "--model", trained_run, "--json")
    assert outcome.code == 1
    rows = json.loads(outcome.out)["rows"]
    assert [row["error"] for row in rows] == ["", "no such image: gone.jpg", "no such image: no*.png"]
    assert outcome.err.splitlines()[-1] == "1 predicted, 2 could not be read (see the errors)"
    outcome = run_cli("predict", "gone.jpg", "no*.png", "--model", trained_run)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: no such image: gone.jpg\n")


@pytest.mark.parametrize("words", [("--csv",), ("--submission",)])
def test_a_place_where_nothing_can_be_written_is_refused_at_once(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()
    for place, said in (
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "file" / "rows.csv", "a file, not a folder"),
    ):
        images = () if "--submission" in words else (digit,)
        outcome = run_cli("predict", *images, "--model", trained_run, *words, place)
        assert (outcome.code, outcome.out) == (1, "")
        assert said in outcome.err
        assert "model:" not in outcome.err
    refused = run_cli("predict", digit, "--model", trained_run, *words, f"{tmp_path / 'new'}/")
    assert (refused.code, (tmp_path / "new").exists()) == (2, False)
    assert "is the name of a folder, not of a file" in refused.err


def test_the_name_of_an_image_may_begin_with_a_tilde(run_cli: RunCli, trained_run: Path, digit: Path) -> None:
    shutil.copy(digit, "~no-such-user.png")
    assert run_cli("predict", "~no-such-user.png", "--model", trained_run).code == 0


def test_the_ending_of_a_pattern_matches_in_upper_and_lower_case(mixed: Path) -> None:
    (mixed / "000.png").rename(mixed / "A.PNG")
    (mixed / "001.png").rename(mixed / "b.Png")
    (mixed / "c.jpg").touch()
    names = [file.name for file in image_files([str(mixed / "*.png")])]
    assert names == ["002.png", "003.png", "004-bad.png", *(f"00{at}.png" for at in range(4, 10)), "A.PNG", "b.Png"]
    with pytest.raises(DataError, match="no such image"):
        image_files([str(mixed / "C.JPG")])  # a name, and not a pattern


def test_an_error_in_the_table_has_a_subject_and_does_not_repeat_the_path(
    run_cli: RunCli, trained_run: Path, mixed: Path
) -> None:
    (mixed / "lost.jpg").symlink_to("gone.jpg")
    table = run_cli("predict", mixed, "--model", trained_run).out
    errors = [line.split("  ", 1)[1].strip() for line in table.splitlines() if "error:" in line]
    assert errors == ["error: it is not an image in a known format", "error: no such image"]
    address = "https://127.0.0.1/a.png"
    row = Prediction(path=address, error="https://127.0.0.1/a.png answers 404 Not Found")
    assert row.reason == "it answers 404 Not Found"
    error = "could not reach 127.0.0.1 (the connection was refused) for https://127.0.0.1/a.png"
    assert Prediction(path=address, error=error).reason == "it cannot be reached: the connection was refused"


@pytest.mark.parametrize(("words", "belongs"), [(["--raw"], "--csv FILE"), (["--data-dir", "d"], "--submission FILE")])
def test_options_without_effect_are_refused(run_cli: RunCli, digit: Path, words: list[str], belongs: str) -> None:
    outcome = run_cli("predict", digit, *words)
    assert outcome.code == 2
    assert f"{words[0]} belongs to {belongs}" in outcome.err


def test_the_hint_to_calibrate_can_be_typed(run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "other runs" / "mine")
    outcome = run_cli("predict", digit, "--output-dir", run.parent, "--coverage", "0.9")
    assert outcome.code == 1
    hint = re.search("`vit (eval .*)`", outcome.err)
    assert hint
    assert run_cli(*shlex.split(hint[1])).code == 0
    last = Path(run) / "checkpoints" / "last.safetensors"
    outcome = run_cli("predict", digit, "--model", last, "--coverage", "0.9")
    assert f"--model {shlex.quote(str(last))}`" in outcome.err, "which that command does not calibrate"


def test_an_empty_list_and_two_outputs_to_stdout_are_refused(
    run_cli: RunCli, trained_run: Path, digit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    outcome = run_cli("predict", "-", "--model", trained_run)
    assert (outcome.code, outcome.out) == (1, "")
    assert "the list on stdin is empty" in outcome.err
    outcome = run_cli("predict", digit, "--csv", "-", "--json")
    assert outcome.code == 2
    assert "both write to stdout" in outcome.err


# --- -o ---


@pytest.mark.parametrize(
    ("words", "spelling"),
    [
        (("eval",), "-o {}"),
        (("predict", "IMAGE"), "-o{}"),
        (("export", "--format", "torchscript"), "-o {}"),
        (("runs",), "-o{}"),
    ],
)
def test_o_with_a_folder_of_runs_works_as_before_and_says_the_new_spelling(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path, words: tuple[str, ...], spelling: str
) -> None:
    runs = shutil.copytree(trained_run, tmp_path / "runs" / "shared").parent
    asked = [digit if word == "IMAGE" else word for word in words]
    old = spelling.format(runs).split()
    outcome = run_cli(*asked, *old, "--json", *(["--overwrite"] if words[0] == "export" else []))
    assert outcome.code == 0, outcome.err
    assert outcome.err.count(f"write --output-dir {runs} for the folder of runs") == 1
    assert "shared" in outcome.out
    new = run_cli(*asked, "--output-dir", runs, "--json", *(["--overwrite"] if words[0] == "export" else []))
    assert new.out == outcome.out
    assert "write --output-dir" not in new.err


def test_o_is_the_folder_of_runs_in_train_too(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    outcome = run_cli("train", shapes, *tiny, "--name", "run", "-o", "runs", "--json")
    assert json.loads(outcome.out)["path"] == "runs/run", outcome.err
    assert "-o is where output goes: write --output-dir runs for the folder of runs" in outcome.err


def test_o_is_where_the_output_goes(run_cli: RunCli, trained_run: Path, digit: Path) -> None:
    assert run_cli("predict", digit, "--model", trained_run, "-o", "rows.csv").code == 0
    assert Path("rows.csv").read_text().startswith("path,class,probability,error\n")
    exported = run_cli("export", trained_run, "--format", "torchscript", "-o", "model.pt")
    assert exported.code == 0, exported.err
    assert Path("model.pt").is_file()
    both = run_cli("predict", "--submission", "a.csv", "-o", "b.csv")
    assert both.code == 2
    assert "--submission names the file to write: leave out -o" in both.err


# --- web addresses ---


@pytest.fixture
def server(digit: Path) -> Iterator[str]:
    content = digit.read_bytes()
    files = {
        "digit.png": content,
        "digit": content,
        "%C3%BC%20b.png": content,
        "page.png": b"<html>",
        "large.png": content + bytes(5000),
    }
    with serving({**files, "cut.png": content, "endless.png": bytes(9000)}, cut_chunked=["endless.png"]) as address:
        yield address


def test_images_are_fetched_from_web_addresses_if_that_is_allowed(
    run_cli: RunCli, trained_run: Path, digit: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_addresses, "_MOST_BYTES", 4000)
    names = ("digit.png", "digit?size=1", "ü b.png", "page.png", "large.png", "endless.png", "missing.png")
    inputs = [*(server + name for name in names), digit, "http://[", server + "digit.png"]
    outcome = run_cli("predict", *inputs, "--allow-urls", "--model", trained_run, "--json")
    assert outcome.code == 1
    rows = {str(row["path"]): row for row in json.loads(outcome.out)["rows"]}
    assert list(rows) == list(map(str, inputs[:-1]))
    expected = rows[str(digit)]
    for name in names[:3]:
        assert rows[server + name]["classes"] == expected["classes"]
        assert rows[server + name]["probabilities"] == pytest.approx(expected["probabilities"])
    errors = {address.rpartition("/")[2]: row["error"] for address, row in rows.items() if row["error"]}
    assert errors == {
        "page.png": f"{server}page.png is not an image in a known format",
        "large.png": "the download has more than 4.0 kB",
        "endless.png": "the download has more than 4.0 kB",
        "missing.png": f"{server}missing.png answers 404 Not Found",
        "[": "http://[ is not a web address: Invalid IPv6 URL",
    }


def test_passwords_of_addresses_are_sent_and_not_printed(
    run_cli: RunCli, trained_run: Path, server: str, tmp_path: Path
) -> None:
    address = server.replace("//", "//ada:pw@") + "digit.png?token=secret&api-key=secret&number=3"
    words = ("predict", address, "--allow-urls", "--model", trained_run)
    for more in ((), ("--json",), ("--csv", tmp_path / "rows.csv"), ("--csv", "-")):
        outcome = run_cli(*words, *more)
        assert outcome.code == 0, outcome.err
        said = outcome.out + outcome.err + "".join(path.read_text() for path in tmp_path.glob("*.csv"))
        assert f"{server}digit.png?number=3" in said
        assert "secret" not in said
        assert "pw" not in said


def test_without_the_flag_nothing_is_fetched(run_cli: RunCli, trained_run: Path) -> None:
    address = "https://user:secret@127.0.0.1/digit.png?key=secret"
    outcome = run_cli("predict", address, "--model", trained_run)
    assert outcome.code == 1
    assert "error: https://127.0.0.1/digit.png is not fetched" in outcome.err
    assert "hint: `vit predict --allow-urls` fetches it" in outcome.err
    assert "secret" not in outcome.err
    outcome = run_cli("predict", address, "--model", trained_run, "--allow-urls", "--offline")
    assert outcome.code == 1
    assert "must not be fetched" in outcome.err


def test_o_with_a_file_is_no_folder_of_runs(run_cli: RunCli, trained_run: Path) -> None:
    outcome = run_cli("eval", "--model", trained_run, "-o", "scores.json")
    assert outcome.code == 2
    assert "-o scores.json: vit eval writes no such file" in outcome.err
    assert "in place of -o, `--json > scores.json` writes the result to it" in outcome.err
    assert not Path("scores.json").exists()


def test_a_file_that_is_no_table_of_predictions_is_not_replaced(
    run_cli: RunCli, trained_run: Path, digit: Path
) -> None:
    Path("train.csv").write_text("image,label\na.png,3\n")
    for file in (digit, Path("train.csv")):
        before = file.read_bytes()
        outcome = run_cli("predict", digit, "--model", trained_run, "-o", file)
        assert outcome.code == 1
        assert f"{file} is a file of another kind, and would be replaced" in outcome.err
        assert file.read_bytes() == before
    for _ in range(2):
        assert run_cli("predict", digit, "--model", trained_run, "-o", "rows.csv").code == 0
