"""`vit preview`: what it draws is what training would see, and it leaves nothing but the figures."""

import csv
import json
import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

import vitcli.workflows.preview as workflow
from tests.conftest import Outcome, naming
from vitcli.cli import inline_images
from vitcli.cli.python_training import preview
from vitcli.core.config_files import Settings
from vitcli.core.errors import DataError
from vitcli.core.events import Event, Note, ignore
from vitcli.core.runs import Run
from vitcli.data.augment import TrainTransform
from vitcli.data.preprocess import InputTransform
from vitcli.data.splits import plan_splits
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.weights import read_foreign
from vitcli.training.images import prepare_training_data
from vitcli.training.settings import settle
from vitcli.training.starting_model import model_input, published, starting_model

RunCli = Callable[..., Outcome]
FIGURES = ("samples.png", "augmentations.png", "classes.png")


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def draw_photo(path: Path, number: int, *, mode: str = "RGB") -> None:
    """Smooth colours, of several sizes."""
    height, width = 40 + 7 * (number % 3), 60 + 5 * (number % 4)
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [across * 255, down * 255, 255 * np.abs(np.sin(number + 3 * across))]
    pixels = np.stack(channels, axis=2).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of 20, 10 and 10 photos, in no splits."""
    for first, (name, count) in enumerate((("ant", 20), ("bee", 10), ("cow", 10))):
        for number in range(count):
            draw_photo(tmp_path / "photos" / name / f"{number}.png", 100 * first + number)
    return tmp_path / "photos"


@pytest.fixture
def own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder of this test's own."""
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the figures are given, instead of being drawn: by function, its arguments, the named ones last."""
    given: dict[str, Any] = {}
    for name in ("draw_samples", "draw_augmentations", "draw_classes"):
        monkeypatch.setattr(workflow, name, lambda *args, name=name, **options: given.update({name: (*args, options)}))
    views = workflow.training_views

    def kept(*args: Any, **options: Any) -> Any:
        given["stored"] = views(*args, **options)
        return given["stored"]

    monkeypatch.setattr(workflow, "training_views", kept)
    return given


# --- what is printed and kept ---


@pytest.mark.pictures
@pytest.mark.usefixtures("own_data")
def test_digits_are_drawn_without_any_option(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("preview")
    assert outcome.code == 0, outcome.err
    for line in (r"1,295 train, 143 val, 359 test", "always answering", "sees 8 x 8 pixels", "recipe digits"):
        assert line in outcome.out
    assert "no data set given: looking at digits (bundled)" in outcome.err
    assert "recipe: digits, the default for digits" in outcome.err
    assert outcome.err.rstrip().endswith("next: vit train")
    assert "\x1b" not in outcome.out + outcome.err
    folder = tmp_path / "experiments" / "previews" / "digits"
    assert files_below(tmp_path / "experiments") == {f"previews/digits/{name}" for name in FIGURES}
    for name in FIGURES:
        image = Image.open(folder / name)
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert run_cli("runs").out == "", "a preview is not a run"


def test_json_is_the_result_and_nothing_else(run_cli: RunCli) -> None:
    outcome = run_cli("preview", "digits", "--json", "--show")
    result = json.loads(outcome.out)
    assert result["images"] == {"train": 1295, "val": 143, "test": 359}
    assert result["classes"] == 10
    assert result["image_size"] == [8, 8]
    assert result["augmentations"] == {"rotate": 10.0, "zoom": 0.1, "shift": 0.08}
    assert [Path(figure).name for figure in result["figures"]] == list(FIGURES)
    assert result["baseline"]["train"] == pytest.approx(131 / 1295)
    assert set(result["baseline"]) == {"train", "val", "test"}
    assert "\x1b" not in outcome.err


def test_nothing_but_figures_is_kept_of_photos(run_cli: RunCli, photos: Path, own_data: Path, tmp_path: Path) -> None:
    before = files_below(photos)
    outcome = run_cli("preview", photos, "--image-size", "36", "--output", "pictures", "--output-dir", "runs")
    assert outcome.code == 0, outcome.err
    assert files_below(tmp_path / "pictures") == set(FIGURES)
    assert files_below(photos) == before
    remembered = {Path(file).name for file in files_below(own_data)}
    assert remembered == {"facts-4.json", "duplicates-3.json"}, "headers, and which files are the same"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "data", "pictures"}
    assert f"next: vit train {photos} --image-size 36 --output-dir runs" in outcome.err


def test_a_second_preview_leaves_the_first(run_cli: RunCli, shapes: Path, tmp_path: Path) -> None:
    first = run_cli("preview", shapes, "-o", tmp_path / "pictures")
    before = {path: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    (tmp_path / "pictures" / "samples.png").unlink()  # the three of a preview have the same number
    second = run_cli("preview", shapes, "--set", "augment.flip=0.5", "-o", tmp_path / "pictures")
    assert "samples.png" in first.out
    assert "samples-2.png" in second.out
    numbered = {name.replace(".png", "-2.png") for name in FIGURES}
    assert files_below(tmp_path / "pictures") == {*FIGURES[1:], *numbered}
    assert all(path.read_bytes() == before[path] for path in before if path.exists())


def test_prepared_images_of_a_run_are_used_and_left_alone(
    run_cli: RunCli, photos: Path, own_data: Path, tiny: tuple[str, ...]
) -> None:
    size = ("--image-size", "36")
    assert run_cli("train", photos, *tiny, *size).code == 0
    before = {path: path.stat().st_mtime_ns for path in own_data.rglob("*")}
    assert any(path.suffix == ".safetensors" for path in before)
    assert run_cli("preview", photos, *size).code == 0
    assert {path: path.stat().st_mtime_ns for path in own_data.rglob("*")} == before


def test_the_hint_repeats_what_was_said(run_cli: RunCli, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "my settings.toml").write_text("[augment]\nflip = 0.25\n")
    words = ("--recipe", "small-images", "--config", "my settings.toml", "--seed", "3", "--set", "augment.zoom=0.5")
    outcome = run_cli("preview", shapes, *words)
    assert outcome.code == 0, outcome.err
    hint = f"next: vit train {shapes} --recipe small-images --config 'my settings.toml' --seed 3 --set augment.zoom=0.5"
    assert outcome.err.rstrip().endswith(hint)


def test_options_that_training_knows_are_taken_and_repeated(run_cli: RunCli, shapes: Path) -> None:
    options = "--model vit-micro-patch4 --mixup 0.3 --val-fraction 0.3 --test-fraction 0.3"
    outcome = run_cli("preview", shapes, *options.split(), "--offline", "--json")
    result = json.loads(outcome.out)
    assert result["model"] == "vit-micro-patch4"
    assert result["augmentations"]["mixup"] == 0.3
    assert result["images"] == {"train": 10, "val": 4, "test": 6}
    shown = run_cli("preview", shapes, *options.split(), "--offline")
    words = shlex.split(shown.err.rpartition("next: vit ")[2])
    assert set(options.split()) <= set(words)
    assert "--offline" in words
    dry = json.loads(run_cli(*words, "--dry-run", "--json").out)
    assert (dry["model"], dry["images"]) == (result["model"], result["images"])


def test_offline_a_data_set_that_is_not_there_is_not_fetched(run_cli: RunCli, tmp_path: Path) -> None:
    outcome = run_cli("preview", "mnist", "--offline", "--data-dir", tmp_path / "data")
    assert outcome.code == 1
    assert "must not be fetched" in outcome.err


@pytest.mark.usefixtures("own_data")
def test_the_data_set_downloaded_last_is_taken(run_cli: RunCli) -> None:
    assert run_cli("download", "digits").code == 0
    assert "looking at digits (downloaded last)" in run_cli("preview").err


def test_a_teacher_in_a_config_file_is_not_looked_for(run_cli: RunCli, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('[teacher]\nname = "elsewhere"\nalpha = 0.3\n')
    outcome = run_cli("preview", shapes, "--config", "settings.toml")
    assert outcome.code == 0, outcome.err
    assert "elsewhere" not in outcome.err


def test_pictures_are_shown_where_asked_for(
    run_cli: RunCli, shapes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("TMUX", "STY", "TERM_PROGRAM", "LC_TERMINAL", "WEZTERM_PANE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.setenv("LINES", "40")
    assert "\x1b" not in run_cli("preview", shapes).err, "a pipe is not a terminal"
    shown = run_cli("preview", shapes, "--show")
    pictures = [path.read_bytes() for path in (tmp_path / "experiments/previews/shapes" / name for name in FIGURES)]
    widths = [inline_images.fitting_columns(png, 120, 40) for png in pictures]
    commands = [inline_images.as_kitty(png, width) for png, width in zip(pictures, widths, strict=True)]
    assert "\n".join(commands) in shown.err
    assert "\x1b" not in shown.out
    monkeypatch.setattr("vitcli.cli.preview.can_show", lambda: True)
    assert "\x1b_G" in run_cli("preview", shapes).err
    assert "\x1b" not in run_cli("preview", shapes, "--no-show").err
    assert "\x1b" not in run_cli("preview", shapes, "--json").err


# --- what is drawn ---


def captured(drawn: dict[str, Any]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Sequence[str]]:
    _, views, names, *_ = drawn["draw_augmentations"]
    return drawn["stored"].images.pixels().numpy(), views, names


def as_trainer_sees(
    layers: Settings, stored: NDArray[np.uint8], directory: Path, count: int
) -> tuple[NDArray[np.float32], list[str]]:
    """The same images through everything that training builds, with weights, caches and all."""
    config, dataset, _ = settle(({**layers, "data": {**layers["data"], "dir": str(directory)}},), ignore)
    model, config, source = starting_model(config, dataset.facts, ignore)
    plan = plan_splits(dataset, config.data, seed=config.run.seed)
    seen = source.preprocessing if source else None
    data = prepare_training_data(dataset, plan, config, model.config.image_size, source=seen, emit=ignore)
    trained_on = data.train.images[torch.from_numpy(data.members)]
    found = [int((trained_on == torch.from_numpy(image)).flatten(1).all(dim=1).nonzero()[0, 0]) for image in stored]
    images = trained_on[found].repeat_interleave(count, dim=0)
    generator = torch.Generator().manual_seed(config.run.seed)
    stretch = data.train.stretch[torch.from_numpy(data.members)][found].repeat_interleave(count)
    transform = TrainTransform(config.augment, InputTransform(data.preprocessing, torch.device("cpu")))
    inputs = transform(images, generator, stretch)
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.preprocessing.mean, data.preprocessing.std))
    classes = [dataset.facts.classes[data.train.labels[data.members[at]]] for at in found]
    pixels = 255 * (inputs * std + mean).clamp(0, 1)
    return pixels.unflatten(0, (len(stored), count)).numpy(), classes


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("digits", {}),
        ("digits", {"model": {"image_size": (12, 16)}, "augment": {"erase": 0.5}}),
        ("photos", {"model": {"image_size": (36, 36)}, "augment": {"brightness": 0.3, "erase": 0.5}}),
        ("photos", {"model": {"image_size": (36, 48)}, "augment": {"crop_scale": 1.0, "rotate": 20.0}}),
        ("photos", {"model": {"image_size": (36, 36)}, "data": {"normalise": "imagenet", "resize": "squash"}}),
        ("run", {"data": {"normalise": "auto"}, "augment": {"flip": 0.5}}),
    ],
)
def test_augmented_images_are_those_of_training(
    drawn: dict[str, Any],
    photos: Path,
    trained_run: Path,
    tmp_path: Path,
    name: str,
    settings: dict[str, dict[str, Any]],
) -> None:
    where = {"data": {"name": str(photos) if name == "photos" else "digits"}, "run": {"seed": 5}}
    where["run"] |= {"init_from": str(trained_run)} if name == "run" else {}
    layers = {key: {**settings.get(key, {}), **where.get(key, {})} for key in settings.keys() | where.keys()}
    workflow.preview(layers, {"data": {"dir": str(tmp_path / "one")}})
    stored, views, names = captured(drawn)
    assert stored.shape[0] == views.shape[0] == 4
    assert views.shape[1] == 7
    expected, classes = as_trainer_sees(layers, stored, tmp_path / "other", 7)
    assert list(names) == classes
    assert views.shape == expected.shape
    assert np.abs(views - expected).max() <= 0.51, "but for rounding"
    for shown, image, stretch in zip(
        drawn["draw_augmentations"][0], stored, drawn["stored"].images.stretch.tolist(), strict=True
    ):
        assert shown.shape == (*image.shape[:2], round(image.shape[2] * stretch)), "each in the shape of its photo"
    if "model" in settings:
        assert views.shape[-2:] == settings["model"]["image_size"]
    assert not np.array_equal(views[:, 0], views[:, 1])


def test_the_seed_decides_on_what_is_drawn(drawn: dict[str, Any], shapes: Path) -> None:
    kept = []
    for seed in (1, 1, 2):
        workflow.preview({"data": {"name": str(shapes)}, "run": {"seed": seed}})
        kept.append((drawn["draw_samples"][0], captured(drawn)[1]))
    assert np.array_equal(kept[0][0], kept[1][0])
    assert np.array_equal(kept[0][1], kept[1][1])
    assert not np.array_equal(kept[0][1], kept[2][1])


def test_without_augmentation_every_view_is_the_stored_image(drawn: dict[str, Any], shapes: Path) -> None:
    off = {"data": {"name": str(shapes)}, "augment": {"crop_padding": 0, "flip": 0.0, "mixup": 0.5}}
    result = workflow.preview(off)
    stored, views, _ = captured(drawn)
    assert (views == stored[:, None]).all()
    assert result.augmentations == {"mixup": 0.5}
    assert drawn["draw_augmentations"][-1]["notes"] == [
        "nothing changes single images",
        "not drawn: mixup 0.5, which mixes two images",
    ]


@pytest.mark.parametrize(("split", "count"), [("train", 28), ("val", 4), ("test", 8)])
def test_samples_are_whole_and_of_the_split_asked_for(
    run_cli: RunCli, drawn: dict[str, Any], photos: Path, split: str, count: int
) -> None:
    assert run_cli("preview", photos, "--image-size", "36", "--split", split).code == 0
    images, names, _, options = drawn["draw_samples"]
    assert options["columns"] == 3
    assert options["title"] == f"photos: {min(count, 9)} of {count} {split} images"
    assert len(images) == len(names) == min(count, 9)
    files = {name: [np.asarray(Image.open(file)) for file in (photos / name).iterdir()] for name in set(names)}
    for image, name in zip(images, names, strict=True):
        assert any(np.array_equal(image.transpose(1, 2, 0), file) for file in files[name])
    assert set(names) == {"ant", "bee", "cow"}


def test_counts_are_those_of_the_splits_that_training_uses(
    run_cli: RunCli, drawn: dict[str, Any], photos: Path
) -> None:
    result = json.loads(run_cli("preview", photos, "--image-size", "36", "--json").out)
    counts, classes, _, options = drawn["draw_classes"]
    assert dict(counts) == {"train": [14, 7, 7], "val": [2, 1, 1], "test": [4, 2, 2]}
    assert classes == ("ant", "bee", "cow")
    assert result["majority"] == "ant"
    assert result["baseline"] == {"train": 0.5, "val": 0.5, "test": 0.5}
    assert "always answering 'ant' scores 50.0 % of train, 50.0 % of val, 50.0 % of test" in options["title"]


# --- kinds of data sets ---


def test_grey_photos_are_drawn_in_grey(run_cli: RunCli, drawn: dict[str, Any], tmp_path: Path) -> None:
    for number in range(12):
        draw_photo(tmp_path / "grey" / f"kind-{number % 2}" / f"{number}.png", number, mode="L")
    outcome = run_cli("preview", "grey", "--image-size", "36")
    assert outcome.code == 0, outcome.err
    stored, views, _ = captured(drawn)
    assert stored.shape[1] == views.shape[2] == 1
    assert all(len(image) == 1 for image in drawn["draw_samples"][0])


def test_a_table_of_labels_is_found(run_cli: RunCli, drawn: dict[str, Any], tmp_path: Path) -> None:
    rows = [("image_id", "label")]
    for number in range(20):
        draw_photo(tmp_path / "leaves" / "train_images" / f"{number}.png", number)
        rows.append((f"{number}.png", number % 2))
    with (tmp_path / "leaves" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (tmp_path / "leaves" / "label_num_to_disease_map.json").write_text('{"0": "Blight", "1": "Healthy"}')
    outcome = run_cli("preview", "leaves", "--image-size", "36")
    assert outcome.code == 0, outcome.err
    assert drawn["draw_classes"][1] == ("Blight", "Healthy")
    assert set(drawn["draw_samples"][1]) == {"Blight", "Healthy"}
    named = run_cli(
        "preview", "leaves", "--image-size", "36", "--labels", "leaves/train.csv", "--label-column", "label"
    )
    assert named.code == 0, named.err
    assert "--labels leaves/train.csv --label-column label" in named.err


def test_many_classes(
    run_cli: RunCli, drawn: dict[str, Any], image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder(tmp_path / "many", {f"train/species {kind:03d}": 2 for kind in range(60)})
    image_folder(tmp_path / "many", {f"test/species {kind:03d}": 1 for kind in range(60)})
    assert run_cli("preview", "many", "--split", "test").code == 0
    names = drawn["draw_samples"][1]
    assert len(set(names)) == len(names) == 25


def test_unreadable_photos_are_named_or_skipped(run_cli: RunCli, photos: Path) -> None:
    for file in (photos / "bee").iterdir():
        file.write_bytes(file.read_bytes()[:150])  # the header alone
    refused = run_cli("preview", photos, "--image-size", "36")
    assert refused.code == 1
    assert str(photos / "bee") in refused.err
    skipped = run_cli("preview", photos, "--image-size", "36", "--on-bad-image", "skip", "--json")
    assert skipped.code == 0, skipped.err
    opened = json.loads(skipped.out)["images"]["train"]  # all, as there are few: each once, for pixels and for colours
    assert f" of {opened} images cannot be read" in skipped.err
    assert "may include some that cannot be read" in skipped.err


# --- weights that are elsewhere ---


def test_the_recipes_weights_need_not_be_there(
    run_cli: RunCli, photos: Path, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    outcome = run_cli("preview", photos, "--recipe", "cassava", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["model"] == "augreg-base-384"
    assert result["image_size"] == [384, 384]
    assert captured(drawn)[1].shape[-2:] == (384, 384)
    smaller = run_cli("preview", photos, "--recipe", "cassava", "--image-size", "64", "--json")
    assert json.loads(smaller.out)["image_size"] == [64, 64]
    assert not (tmp_path / "hub").exists()


def test_weights_of_which_nothing_is_known_are_asked_for(
    run_cli: RunCli, photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    outcome = run_cli("preview", photos, "--set", "run.init_from=hf:ada/vit")
    assert outcome.code == 1
    assert "hf:ada/vit is not on this machine" in outcome.err
    assert "vit download hf:ada/vit" in outcome.err


def test_a_run_says_what_it_is_used_to(run_cli: RunCli, trained_run: Path, shapes: Path) -> None:
    result = json.loads(run_cli("preview", shapes, "--set", f"run.init_from={trained_run}", "--json").out)
    assert result["image_size"] == [8, 8]
    assert result["model"] == Run(trained_run).config["model"]["name"]


def test_what_the_table_says_of_weights_is_what_reading_them_says(tmp_path: Path) -> None:
    """A model of the same image and patch size, but tiny, in timm's format."""
    sizes = {"embed_dim": 64, "depth": 1, "num_heads": 1, "num_classes": 3}
    for name, entry in PRETRAINED.items():
        with naming(name):
            model, preprocessing = published(name)
            tiny = timm.models.VisionTransformer(img_size=model.image_size, patch_size=model.patch_size[0], **sizes)
            (tmp_path / name).mkdir()
            save_file(tiny.state_dict(), tmp_path / name / "model.safetensors")
            read = read_foreign(tmp_path / name / "model.safetensors", entry.traits, name=name)
            assert read.preprocessing == preprocessing
            assert (read.config.name, read.config.image_size) == (model.name, model.image_size)
            assert read.config.patch_size == model.patch_size


def test_a_file_comes_before_a_name(trained_run: Path, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "deit-tiny").write_bytes(b"no weights")
    asked = {"data": {"name": str(shapes)}, "run": {"init_from": "deit-tiny"}}
    config, dataset, _ = settle((asked,), ignore)
    with pytest.raises(Exception, match="deit-tiny"):
        model_input(config, dataset.facts, ignore)
    (tmp_path / "deit-tiny").unlink()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "deit-tiny").symlink_to(trained_run)
    config, dataset, _ = settle((asked,), ignore)
    assert model_input(config, dataset.facts, ignore)[0].image_size == (8, 8)


# --- what cannot be ---


def test_mistakes_end_with_a_hint(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words, said in [
        (("digit",), "did you mean 'digits'?"),
        (("digits", "--recipe", "digit"), "did you mean 'digits'?"),
        (("digits", "--set", "augment.flop=1"), "did you mean 'augment.flip'?"),
        (("digits", "--image-size", "9"), "not divisible by patch size"),
        (("digits", "--config", "none.toml"), "no such config file"),
        (("no/such/folder",), "is not a folder"),
        (("digits", "--output", "file"), "is a file"),
        (("digits", "--output", "new.pdf"), "--output new"),
        (("digits", "--set", "model.name=vit-nan"), "unknown model"),
        (("digits", "--seed", "-1"), "--seed -1"),
    ]:
        with naming(*words):
            outcome = run_cli("preview", *words)
            assert outcome.code in {1, 2}
            assert said in outcome.err
            assert "Traceback" not in outcome.err
            assert not (tmp_path / "experiments").exists()


def test_a_split_that_is_not_there(run_cli: RunCli, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "untested", {f"{split}/{name}": 4 for split in ("train", "val") for name in "ab"})
    outcome = run_cli("preview", "untested", "--split", "test")
    assert outcome.code == 1
    assert "untested has no test split" in outcome.err
    assert "hint: it has train, val: `vit preview untested --split val`\n" in outcome.err
    with pytest.raises(DataError) as caught:
        preview("untested", split="test", quiet=True)
    assert caught.value.hint == 'it has train, val: split="val"'
    assert not (tmp_path / "experiments").exists()


def test_words_that_are_no_options_end_with_2(run_cli: RunCli) -> None:
    for words in [("--split", "validation"), ("--seed", "x"), ("--nothing",), ("digits", "more")]:
        assert run_cli("preview", *words).code == 2, words


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="folders that may not be written")
def test_a_folder_that_may_not_be_written(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = run_cli("preview", "digits", "--output", "locked/figures")
    assert outcome.code == 1
    assert "locked" in outcome.err


def test_the_name_of_a_run_in_a_config_file_is_no_hindrance(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        f'[run]\nname = "{trained_run.name}"\ndevice = "cuda:7"\noutput_dir = "{trained_run.parent}"\n'
    )
    outcome = run_cli("preview", "digits", "--config", "mine.toml", "--output", "here")
    assert outcome.code == 0, outcome.err


def test_a_workflow_tells_what_it_decided(shapes: Path) -> None:
    told: list[Event] = []
    result = workflow.preview({"data": {"name": str(shapes)}}, output=Path("out"), emit=told.append)
    assert [event.text for event in told if isinstance(event, Note)] == [
        "recipe: small-images, because all images have 8 x 8 pixels; vit-nano-patch4 at 8 x 8 pixels",
        "images are not mirrored: all are grey, so they may be letters (--set augment.flip=0.5 mirrors them)",
        "validation: 10 % of the training images, not 3 %, because 3 % would be few images (--val-fraction changes this)",
        "epochs: 300, not 10, because there are few images (--epochs changes this)",
    ]
    assert result.figures == tuple(Path("out") / name for name in FIGURES)
