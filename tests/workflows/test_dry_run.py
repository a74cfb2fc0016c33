"""``vit train --dry-run``: what would go wrong is found before it does, and nothing is left behind."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Outcome
from vitcli.cli.train_report import _decoding
from vitcli.core.config import DataConfig, RunConfig
from vitcli.data.dataset import open_dataset
from vitcli.data.splits import plan_splits

RunCli = Callable[..., Outcome]
SMALL = (
    *("--model", "vit-nano-patch4", "--set", "model.depth=1", "--image-size", "16"),
    *("--batch-size", "8", "--epochs", "1"),
)


@pytest.fixture
def photos(image_folder: Callable[..., Path], tmp_path: Path) -> Path:
    """Thirty colour photos of one class and ten of another."""
    return image_folder(tmp_path / "unseen", {"cat": 30, "dog": 10}, size=(80, 60), mode="RGB")


def report_of(run_cli: RunCli, *words: object) -> tuple[int, dict]:
    outcome = run_cli("train", *words, "--dry-run", "--json")
    return outcome.code, json.loads(outcome.out)


def first(folder: Path) -> Path:
    return min(folder.iterdir())


def test_good_data_may_be_trained_on_and_nothing_is_written(
    run_cli: RunCli, photos: Path, tmp_path: Path, data_dir: Path
) -> None:
    before = set(data_dir.glob("prepared/*/*.safetensors"))
    outcome = run_cli("train", photos, *SMALL, "--dry-run")
    assert outcome.code == 0, outcome.err
    options = "--batch-size 8 --epochs 1 --init-from deit-tiny --freeze-backbone"
    assert f"photos without labels) usually score higher: `vit train {photos} {options}`" in outcome.err
    assert "training can start" in outcome.err
    assert "always answering 'cat' scores" in outcome.out
    (epochs,) = [line.split() for line in outcome.out.splitlines() if line.startswith("optim.epochs ")]
    assert epochs == ["optim.epochs", "1", "given"]
    assert not (tmp_path / "experiments").exists()
    assert set(data_dir.glob("prepared/*/*.safetensors")) == before


def test_the_size_of_images_is_a_setting_whoever_chose_it(run_cli: RunCli, photos: Path) -> None:
    tiny = ("--model", "vit-nano-patch4", "--set", "model.depth=1", "--batch-size", "8", "--epochs", "1")
    for given, source in (((), "chosen"), (("--image-size", "16"), "given")):
        _, report = report_of(run_cli, photos, *tiny, *given)
        setting = report["settings"]["model"]["image_size"]
        assert setting["source"] == source
        assert setting["value"] == ([16, 16] if given else [64, 64])


def test_bad_images_are_all_named(run_cli: RunCli, photos: Path) -> None:
    cut = first(photos / "cat")
    Image.open(first(photos / "dog")).save(photos / "dog" / "cut.jpg")
    content = (photos / "dog" / "cut.jpg").read_bytes()
    (photos / "dog" / "cut.jpg").write_bytes(content[: len(content) * 2 // 3])
    cut.write_text("no image")
    (photos / "cat" / "empty.png").touch()
    code, report = report_of(run_cli, photos, *SMALL)
    assert code == 1
    assert report["bad"].keys() == {f"cat/{cut.name}", "cat/empty.png", "dog/cut.jpg"}
    assert report["would_start"] is False
    code, report = report_of(run_cli, photos, *SMALL, "--on-bad-image", "skip")
    assert (code, report["would_start"], len(report["bad"])) == (0, True, 3)
    assert sum(report["images"].values()) == 30 + 10 - 1  # the cut copy and the empty file never counted
    assert sum(report["balance"]["counts"].values()) == report["images"]["train"]
    trained = run_cli("train", photos, *SMALL, "--on-bad-image", "skip")
    counts = ", ".join(f"{count} {name}" for name, count in report["images"].items())
    assert f"unseen: {counts}; 2 classes: cat, dog" in trained.err
    assert trained.err.count("left out: 3 of 42 images cannot be read") == 1
    shown = run_cli("train", photos, *SMALL, "--on-bad-image", "skip", "--dry-run").out
    assert shown.count(f"{cut} is not") == 1
    assert shown.count(cut.name) == 1
    assert "\nunreadable            3, left out\n" in shown


def test_leaks_from_split_to_split_are_found(
    run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {f"{split}/{name}": 6 for split in ("train", "test") for name in "ab"})
    for name in ("copy.png", "again.png", "more.png"):
        shutil.copy(first(folder / "train" / "a"), folder / "test" / "a" / name)
    shutil.copy(first(folder / "train" / "b"), folder / "train" / "b" / "copy.png")
    shutil.copy(first(folder / "train" / "b"), folder / "train" / "a" / "wrong.png")
    code, report = report_of(run_cli, folder, *SMALL, "--val-fraction", "0.2")
    assert code == 0
    found = report["duplicates"]
    assert len(found["contradictory"]) == 1
    assert "train/a/wrong.png" in found["contradictory"][0]
    leaks = {tuple(leak["splits"]): leak["images"] for leak in found["leaks"]}
    assert sum(count for (_, other), count in leaks.items() if other == "test") == 3
    trained = run_cli("train", folder, *SMALL, "--val-fraction", "0.2")
    assert trained.code == 0, trained.err
    assert "warning: 3 images of test are in " in trained.err
    assert "they make the scores too high" in trained.err
    assert "different labels" in trained.err


def test_a_majority_is_warned_about(run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "leaves", {"a": 5, "b": 5, "c": 40})
    trained = run_cli("train", folder, *SMALL)
    assert trained.code == 0, trained.err
    assert "always answering 'c' would score" in trained.err
    code, report = report_of(run_cli, folder, *SMALL)
    assert code == 0
    assert report["balance"]["majority"] == "c"
    assert report["balance"]["majority_share"] == pytest.approx(0.8, abs=0.04)


def test_odd_images_are_counted(run_cli: RunCli, photos: Path) -> None:
    Image.new("L", (30, 30)).save(photos / "cat" / "grey.png")
    Image.new("RGBA", (30, 30)).save(photos / "cat" / "alpha.png")
    Image.new("CMYK", (30, 30)).save(photos / "cat" / "print.jpg")
    Image.new("I;16", (30, 30)).save(photos / "cat" / "deep.png")
    Image.new("RGB", (30, 30)).save(
        photos / "cat" / "moving.gif", save_all=True, append_images=[Image.new("RGB", (30, 30), "red")]
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 30)).save(photos / "cat" / "turned.jpg", exif=turned)
    code, report = report_of(run_cli, photos, *SMALL)
    assert code == 0
    assert report["kinds"] == {
        "CMYK": 1,
        "animated (first frame)": 1,
        "grey": 2,
        "more than 8 bits": 1,
        "transparent": 1,
        "turned by EXIF": 1,
    }


def test_time_and_memory_are_measured(run_cli: RunCli, photos: Path) -> None:
    _, report = report_of(run_cli, photos, *SMALL)
    images = report["images"]["train"]
    assert report["step_seconds"] > 0
    assert report["epoch_seconds"] >= report["step_seconds"] * images / 8  # the last of the steps may be short
    assert report["training_seconds"] > report["epoch_seconds"]  # validation of one epoch comes on top
    assert report["memory_bytes"] > 10**7


def test_settings_are_told_with_their_sources(run_cli: RunCli, photos: Path) -> None:
    _, report = report_of(run_cli, photos, "--epochs", "1", "--lr", "0.02")
    data, optim = report["settings"]["data"], report["settings"]["optim"]
    assert data["name"] == {"value": str(photos.resolve()), "source": "given"}
    assert data["dir"]["source"] == "$VIT_DATA_DIR"
    assert optim["lr"] == {"value": 0.02, "source": "given"}
    assert optim["warmup_epochs"] == {"value": 0.5, "source": "chosen"}
    assert optim["batch_size"] == {"value": 128, "source": "recipe small-photos"}
    assert data["on_bad_image"] == {"value": "error", "source": "default"}  # although the check skips bad images
    assert data["cache"] == {"value": "auto", "source": "default"}


def test_sets_without_files_are_checked_too(run_cli: RunCli) -> None:
    code, report = report_of(run_cli, "digits", "--epochs", "1")
    assert code == 0
    assert report["images"] == {"train": 1295, "val": 143, "test": 359}
    assert report["bad"] == {}
    assert report["decode_seconds"] == 0
    shown = run_cli("train", "digits", "--dry-run", "--epochs", "1").out
    assert "decoding none: the images are not in files" in " ".join(shown.split())


@pytest.mark.parametrize(("seconds", "words"), [(0.01, "less than 0.1 s"), (0.06, "0.1 s"), (125, "2 min 05 s")])
def test_a_time_of_decoding_is_never_shown_as_zero(seconds: float, words: str) -> None:
    assert _decoding(seconds) == f"{words} for all images, once if they are cached"


def test_rows_of_no_use_are_named(run_cli: RunCli, photos: Path) -> None:
    names = [file.relative_to(photos).as_posix() for file in sorted(photos.rglob("*.png"))]
    rows = [f"{name},{name.split('/')[0]}" for name in names] + ["gone.png,cat", f"{names[0]},dog", f"{names[1]},"]
    table = photos.parent / "table.csv"
    table.write_text("image,label\n" + "\n".join(rows[1:]) + "\n" + rows[0] + "\n")
    code, report = report_of(run_cli, photos, "--labels", table, *SMALL)
    assert code == 1
    assert [list(names) for names in report["left_out"].values()] == [["gone.png"], [names[1]], [names[0]]]
    assert run_cli("train", photos, "--labels", table, *SMALL).code == 1
    code, report = report_of(run_cli, photos, "--labels", table, *SMALL, "--on-bad-image", "skip")
    assert (code, report["would_start"]) == (0, True)


def test_images_that_are_all_bad_are_all_named(run_cli: RunCli, photos: Path) -> None:
    for file in photos.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:-30])
    code, report = report_of(run_cli, photos, *SMALL)
    assert code == 1
    assert len(report["bad"]) == 40


def test_what_is_passed_over_and_images_without_a_row_are_told_once(run_cli: RunCli, photos: Path) -> None:
    names = [file.relative_to(photos).as_posix() for file in sorted(photos.rglob("*.png"))]
    (photos / "cat" / "later.cr2").touch()
    (photos / "cat" / "more").symlink_to(photos / "dog")
    table = photos.parent / "table.csv"
    table.write_text("image,label\n" + "".join(f"{name},{name.split('/')[0]}\n" for name in names[:-2]))
    code, report = report_of(run_cli, photos, "--labels", table, *SMALL)
    assert code == 0
    passed_over = {"without a row": names[-2:], ".cr2": ["cat/later.cr2"], "linked folders": ["cat/more"]}
    assert report["passed_over"] == passed_over
    assert report["left_out"] == {}
    line = f"ignored: 2 without a row ({', '.join(names[-2:])}), 1 .cr2 (cat/later.cr2)"
    dry = run_cli("train", photos, "--labels", table, *SMALL, "--dry-run")
    trained = run_cli("train", photos, "--labels", table, *SMALL, "--name", "run")
    judged = run_cli("eval", photos, "--model", "run", "--labels", table)
    for what in ("ignored: ", "cat/more"):
        assert [each.err.count(what) for each in (dry, trained, judged)] == [1, 1, 1]
    assert all(line in each.err for each in (dry, trained, judged))


def test_an_empty_class_is_one_problem_among_others(run_cli: RunCli, photos: Path) -> None:
    (photos / "eel").mkdir()
    (photos / "cat" / "broken.png").write_text("no image")
    code, report = report_of(run_cli, photos, *SMALL)
    assert (code, report["would_start"]) == (1, False)
    assert report["left_out"] == {"of 3 class folders without images": ["eel"]}
    assert report["bad"].keys() == {"cat/broken.png"}
    assert run_cli("train", photos, *SMALL).code == 1
    assert run_cli("train", photos, *SMALL, "--on-bad-image", "skip").code == 0


def test_a_class_without_a_training_image_is_named(
    run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {f"{split}/{name}": 6 for split in ("train", "test") for name in "abc"})
    for file in (folder / "train" / "b").iterdir():
        file.write_text("no image")
    words = (folder, *SMALL, "--on-bad-image", "skip", "--val-fraction", "0.2")
    outcome = run_cli("train", *words, "--dry-run")
    assert "problem: no training image of: b" in outcome.out
    assert re.search(r"classes +a: \d+, c: \d+, b: 0\n", outcome.out)
    assert re.search(r"imbalance +1.0 to 1\n", outcome.out)
    assert "no training image of: b" in run_cli("train", *words).err


def test_a_class_whose_validation_images_cannot_be_read_is_named(run_cli: RunCli, photos: Path, data_dir: Path) -> None:
    config = DataConfig(name=str(photos), val_fraction=0.1, test_fraction=0.1)
    dataset = open_dataset(config, directory=data_dir)
    for name in dataset.names("train", plan_splits(dataset, config, seed=RunConfig().seed)["val"].members):
        if str(name).startswith("cat/"):
            (photos / str(name)).write_text(f"{name} is no image")
    words = (photos, *SMALL, "--on-bad-image", "skip", "--val-fraction", "0.1", "--test-fraction", "0.1")
    told = " ".join(run_cli("train", *words, "--dry-run").out.split())
    assert "without images val lacks cat (too few images, or none that can be read)" in told
    assert "no validation image can be read of: cat;" in run_cli("train", *words).err


def test_a_class_that_a_folder_of_validation_images_lacks_is_named(
    run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {f"{split}/{name}": 6 for split in ("train", "val") for name in "ab"})
    for file in (folder / "val" / "b").iterdir():
        file.write_text(f"{file} is no image")
    told = " ".join(run_cli("train", folder, *SMALL, "--on-bad-image", "skip", "--dry-run").out.split())
    assert "without images val lacks b (too few images, or none that can be read)" in told


def test_a_head_is_trained_on_features_that_are_computed_once(run_cli: RunCli, photos: Path) -> None:
    words = (photos, *SMALL[:-2], "--init-from", "first", "--freeze-backbone", "--set", "augment.feature_views=2")
    assert run_cli("train", photos, *SMALL, "--name", "first").code == 0
    _, report = report_of(run_cli, *words, "--epochs", "200")
    assert 0 < report["training_seconds"] < 20 * report["step_seconds"], "two passes of five steps, not two hundred"


def test_copies_and_rare_classes_are_named(run_cli: RunCli, photos: Path) -> None:
    image = first(photos / "cat")
    shutil.copy(image, photos / "cat" / "copy.png")
    Image.new("RGB", (80, 60), "red").save(photos / "owl.png")
    (photos / "owl").mkdir()
    (photos / "owl.png").rename(photos / "owl" / "owl.png")
    code, report = report_of(run_cli, photos, *SMALL)
    assert code == 0
    assert report["duplicates"]["leaks"] == []
    assert report["duplicates"]["repeats"] in ([], [f"cat/{image.name} = cat/copy.png"])
    assert report["rare"] == {"val": ["owl"], "test": ["owl"]}
    outcome = run_cli("train", photos, *SMALL)
    assert outcome.code == 0, outcome.err
    assert "too few images to hold any out, so test lacks them: owl" in outcome.err


def test_copies_within_training_are_named(run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    splits = {f"{split}/{name}": 4 for split in ("train", "val") for name in "ab"}
    folder = image_folder(tmp_path / "pets", splits)
    shutil.copy(folder / "train" / "a" / "000.png", folder / "train" / "a" / "copy.png")
    _, report = report_of(run_cli, folder, *SMALL)
    assert report["duplicates"]["repeats"] == ["train/a/000.png = train/a/copy.png"]
    outcome = run_cli("train", folder, *SMALL, "--dry-run")
    assert "1: train/a/000.png = train/a/copy.png" in outcome.out


def test_a_remedy_is_not_proposed_to_those_who_take_it(
    run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "leaves", {"a": 5, "b": 5, "c": 40})
    weighted, both = ("--class-weights", "balanced"), ("--class-weights", "balanced", "--balanced-sampling")
    assert "would score" not in run_cli("train", folder, *SMALL, *weighted).err
    (tmp_path / "weights.json").write_text('{"a": 1.0, "b": 2.0}')
    refused = run_cli("train", folder, *SMALL, "--class-weights", "weights.json", "--dry-run")
    assert refused.code == 1
    assert "does not weigh every class: 'c' are missing" in refused.err
    assert "favour rare classes twice" in run_cli("train", folder, *SMALL, *both).err
