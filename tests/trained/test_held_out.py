"""What was held out of training stays held out, however the folder changes; and what counts as the same data."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Outcome
from vitcli.core.config import DataConfig
from vitcli.core.files import write_json
from vitcli.core.fingerprints import is_same_data
from vitcli.core.runs import Run
from vitcli.core.stored import read_json
from vitcli.data.dataset import Facts, open_dataset
from vitcli.engine.checkpoint import load_checkpoint

RunCli = Callable[..., Outcome]
ImageFolder = Callable[..., Path]
Split = dict[str, list[str]]


@pytest.fixture(scope="module")
def trained_on_pets(
    run_cli: RunCli,
    image_folder: ImageFolder,
    tiny: tuple[str, ...],
    data_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A place with 40 images, a run that was trained on them, and a copy of both in ``kept`` beside it."""
    home = tmp_path_factory.mktemp("held-out") / "home"
    image_folder(home / "pets", {"cat": 20, "dog": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        words = ("--val-fraction", "0.2", "--name", "run", "--data-dir", data_dir)
        assert run_cli("train", "pets", *tiny, *words).code == 0
    shutil.copytree(home, home.with_name("kept"))
    return home


@pytest.fixture
def pets(trained_on_pets: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flat folder of 40 images that a run was trained on: 6 validate, 8 are for testing; as new for every test."""
    shutil.rmtree(trained_on_pets)
    shutil.copytree(trained_on_pets.with_name("kept"), trained_on_pets)
    monkeypatch.chdir(trained_on_pets)
    return trained_on_pets / "pets"


def held_out(folder: Path) -> Split:
    stored: Split = Run(folder.parent / "experiments" / "run").split["held_out"]
    return stored


def said(outcome: Outcome) -> str:
    return " ".join(outcome.err.split())


def evaluated(run_cli: RunCli, split: str) -> tuple[int, list[list[int]], Outcome]:
    """Images, confusion matrix, and what was said."""
    outcome = run_cli("eval", "--split", split, "--model", "run", "--json")
    assert outcome.code == 0, outcome.err
    metrics = json.loads(outcome.out)["metrics"]
    return metrics["images"], metrics["confusion"], outcome


def add(folder: Path, names: list[str]) -> None:
    """New images, the names of some of which sort before all others."""
    for number, name in enumerate(names):
        Image.new("L", (8, 8), 40 + number).save(folder / name)


def test_nothing_is_said_while_nothing_has_changed(run_cli: RunCli, pets: Path) -> None:
    for split, count in (("val", 6), ("test", 8), ("train", 26)):
        images, _, outcome = evaluated(run_cli, split)
        assert images == count == (len(held_out(pets)[split]) if split != "train" else 26)
        assert "has changed" not in outcome.err


def test_new_images_do_not_move_those_that_are_held_out(run_cli: RunCli, pets: Path) -> None:
    before = {split: evaluated(run_cli, split)[1] for split in ("val", "test")}
    add(pets, [f"{kind}/{where}{number}.png" for kind in ("cat", "dog") for where in ("0", "z") for number in range(7)])
    for split, confusion in before.items():
        images, again, outcome = evaluated(run_cli, split)
        assert images == len(held_out(pets)[split])
        assert again == confusion
        assert (
            "pets has changed since this model was trained: all 14 images held out of the training images then still exist"
            in said(outcome)
        )
    assert evaluated(run_cli, "train")[0] == 26 + 28


def test_other_labels_do_not_replace_the_own_evaluation(run_cli: RunCli, pets: Path) -> None:
    own = evaluated(run_cli, "test")[1]
    files = sorted(pets.rglob("*.png"))
    table = pets.parent / "swapped.csv"
    rows = [f"{file.relative_to(pets)},{'dog' if 'cat' in str(file) else 'cat'}" for file in files]
    table.write_text("\n".join(["image,label", *rows]))
    outcome = run_cli("eval", "pets", "--labels", table, "--model", "run", "--json")
    assert outcome.code == 0, outcome.err
    assert "pets has other labels here than when this model was trained" in said(outcome)
    swapped = json.loads(outcome.out)["metrics"]["confusion"]
    assert sorted(swapped) == sorted([1 - truth, predicted, count] for truth, predicted, count in own)
    folder = pets.parent / "experiments" / "run" / "evaluations"
    assert json.loads((folder / "test.json").read_text())["confusion"] == own
    assert (folder / "pets-test-swapped.json").is_file()


def test_images_that_are_gone_are_missing_from_their_own_split_only(run_cli: RunCli, pets: Path) -> None:
    stored = held_out(pets)
    add(pets, ["cat/0new.png", "dog/0new.png"])
    for name in (stored["val"][0], stored["test"][0], stored["test"][-1]):
        (pets / name).unlink()
    training = {path.relative_to(pets).as_posix() for path in pets.rglob("*.png")} - {*stored["val"], *stored["test"]}
    (pets / min(training)).unlink()
    assert evaluated(run_cli, "val")[0] == 5
    assert evaluated(run_cli, "test")[0] == 6
    images, _, outcome = evaluated(run_cli, "train")
    assert images == 26 + 2 - 1
    assert "3 of the 14 images held out of the training images then no longer exist" in said(outcome)


def test_an_image_of_another_class_now_is_no_longer_the_one_that_was_held_out(run_cli: RunCli, pets: Path) -> None:
    name = next(name for name in held_out(pets)["val"] if name.startswith("cat"))
    (pets / name).rename(pets / "dog" / "moved.png")
    assert evaluated(run_cli, "val")[0] == 5
    assert evaluated(run_cli, "train")[0] == 27


def test_a_split_that_has_lost_all_its_images_is_not_there(run_cli: RunCli, pets: Path) -> None:
    for name in held_out(pets)["val"]:
        (pets / name).unlink()
    outcome = run_cli("eval", "--split", "val", "--model", "run")
    assert outcome.code == 1
    assert "pets has no val split" in outcome.err
    assert "it has" in outcome.err
    assert evaluated(run_cli, "test")[0] == 8


def test_without_the_stored_split_it_is_found_again_and_the_doubt_is_said(run_cli: RunCli, pets: Path) -> None:
    """Runs of earlier versions have none, nor have checkpoints elsewhere."""
    before = evaluated(run_cli, "val")
    (pets.parent / "experiments" / "run" / "split.json").unlink()
    again = evaluated(run_cli, "val")
    assert again[:2] == before[:2]
    add(pets, [f"cat/z{number}.png" for number in range(10)])
    images, _, outcome = evaluated(run_cli, "val")
    assert images == 8
    assert "its splits may differ" in said(outcome)


def move(folder: Path, place: str) -> str:
    """The folder is in another place; or there, and called by a link."""
    folder.rename(folder.with_name("moved"))
    if place == "renamed":
        return "moved"
    link = folder if place == "a link where it was" else folder.with_name("link")
    link.symlink_to("moved")
    return link.name


@pytest.mark.parametrize("place", ["renamed", "a link where it was", "a link elsewhere"])
@pytest.mark.parametrize("without", ["", "split.json"])
def test_the_same_images_in_another_place_are_known(run_cli: RunCli, pets: Path, place: str, without: str) -> None:
    before = evaluated(run_cli, "auto")
    where = move(pets, place)
    if without:
        (pets.parent / "experiments" / "run" / without).unlink()
    outcome = run_cli("eval", where, "--model", "run", "--json")
    result = json.loads(outcome.out)
    assert (result["split"], result["metrics"]["images"], result["metrics"]["confusion"]) == ("test", 8, before[1])
    assert "the same images and labels as the data of run" in said(outcome)
    assert result["files"]["metrics"].endswith("evaluations/test.json")


def test_a_folder_that_is_a_split_of_the_own_data_is_known(
    run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    counts = {"train": 6, "val": 4, "test": 2}
    image_folder(
        tmp_path / "bugs", {f"{name}/{kind}": count for name, count in counts.items() for kind in ("ant", "bee")}
    )
    assert run_cli("train", "bugs", *tiny, "--name", "run").code == 0
    shutil.copytree("experiments/run", "experiments/last")
    settings = read_json(Path("experiments/last/config.json"))
    settings["optim"]["keep"] = "last"
    write_json(Path("experiments/last/config.json"), settings)
    (tmp_path / "link").symlink_to("bugs")
    for split, words, warning in (
        ("val", "validation", "these validation images chose the epoch"),
        ("train", "training", "the model was trained on these images"),
        ("test", "test", ""),
    ):
        expected, _, outcome = evaluated(run_cli, split)
        last = run_cli("eval", f"bugs/{split}", "--model", "last")
        assert ("warning" in last.err) == (split == "train"), "no image chose an epoch"
        for name in ("bugs", "link"):
            known = run_cli("eval", f"{name}/{split}", "--model", "run", "--json")
            assert json.loads(known.out) == json.loads(outcome.out), known.err
            assert f"these are the run's own {words} images, as with --split {split}" in known.err
            assert warning in known.err
            assert ("warning" in known.err) == bool(warning)
        assert expected == 2 * counts[split]
    for split in counts:
        (tmp_path / "bugs" / split / "ant" / "000.png").unlink()
        part = run_cli("eval", f"bugs/{split}", "--model", "run", "--json")
        assert part.code == 0, part.err
        assert "the run's own" in part.err, "what is left of a split is all of it"


def test_a_copy_of_a_split_is_known_by_its_images(
    run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    image_folder(tmp_path / "bugs", {f"{name}/{kind}": 4 for name in ("train", "val") for kind in ("ant", "bee")})
    assert run_cli("train", "bugs", *tiny, "--name", "run").code == 0
    expected = evaluated(run_cli, "val")[2]
    shutil.copytree("bugs/val", "copy")
    known = run_cli("eval", "copy", "--model", "run", "--json")
    assert json.loads(known.out) == json.loads(expected.out), known.err
    assert "these are the run's own validation images, as with --split val" in known.err
    (tmp_path / "copy" / "ant" / "000.png").rename(tmp_path / "copy" / "bee" / "other.png")
    other = run_cli("eval", "copy", "--model", "run", "--json")
    assert json.loads(other.out)["part"] == "all", "one label is another"
    assert "warning: 8 of 8 images chose the epoch of run: scores are too high" in other.err
    stored = read_json(Path("experiments/run/evaluations/copy-all.json"))
    assert (stored["trained_on"], stored["chose_epoch_by"]) == (0, 8)
    shutil.copy("bugs/train/ant/001.png", "copy/ant/new.png")
    assert "warning: run was trained on 1 of 9 images: scores are too high" in run_cli("eval", "copy").err
    shutil.rmtree("bugs")
    unknown = run_cli("eval", "copy")
    assert "whether run was trained on some of these images cannot be known" in said(unknown)
    assert f"its own are not in {tmp_path / 'bugs'} any more" in said(unknown)


def test_weights_that_vit_did_not_train_have_no_images_of_their_own(
    run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """The current folder, which is a data set here, is not taken for them."""
    image_folder(tmp_path / "bugs", {"ant": 6, "bee": 6})
    assert run_cli("train", "bugs", *tiny, "--output-dir", tmp_path.with_name("runs")).code == 0
    model = tmp_path.with_name("exported")
    assert (
        run_cli("export", "--output-dir", tmp_path.with_name("runs"), "--format", "timm", "--output", model).code == 0
    )
    judged = run_cli("eval", "bugs", "--model", model, "--json")
    assert judged.code == 0, judged.err
    assert "exported was trained on some of these images cannot be known: vit did not train it" in said(judged)
    assert json.loads(judged.out)["metrics"]["images"] == 12


def test_training_images_among_others_are_counted(
    run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    """Validation images were held out of the folder for training, so that it is no split of the run's."""
    image_folder(tmp_path / "bugs", {"train/ant": 10, "train/bee": 10, "test/ant": 2, "test/bee": 2})
    assert run_cli("train", "bugs", *tiny, "--val-fraction", "0.2", "--name", "run").code == 0
    outcome = run_cli("eval", "bugs/train", "--model", "run", "--json")
    assert json.loads(outcome.out)["held_out"] is None
    assert "run was trained on 16 of 20 images: scores are too high" in said(outcome)
    stored = read_json(Path(json.loads(outcome.out)["files"]["metrics"]))
    assert (stored["trained_on"], stored["chose_epoch_by"]) == (16, 4)


def test_training_images_with_a_table_of_labels_are_counted(run_cli: RunCli, pets: Path) -> None:
    rows = "".join(f"{path.relative_to(pets.parent)},{path.parent.name}\n" for path in sorted(pets.rglob("*.png")))
    (pets.parent / "table.csv").write_text(f"image,label\n{rows}")
    outcome = run_cli("eval", ".", "--labels", "table.csv", "--model", "run", "--json")
    assert outcome.code == 0, outcome.err
    assert "warning: run was trained on 26 of 40 images: scores are too high" in outcome.err
    assert json.loads(outcome.out)["part"] == "all"


def test_other_images_without_a_test_split_are_judged_whole_and_the_doubt_is_said(
    run_cli: RunCli, pets: Path, image_folder: ImageFolder
) -> None:
    image_folder(pets.parent / "others", {"cat": 3, "dog": 4})
    outcome = run_cli("eval", "others", "--model", "run")
    assert "data others, all images (7) top-1" in " ".join(outcome.out.split())
    stored = json.loads(Path("experiments/run/evaluations/others-all.json").read_text())
    assert (stored["dataset"], stored["data"]) == ("others", str(pets.parent / "others"))
    assert (stored["split"], stored["part"], stored["found_in"]) == ("all", "all", "train")
    assert Path("experiments/run/evaluations/others-all-predictions.csv").is_file()
    shown = json.loads(run_cli("eval", "others", "--model", "run", "--split", "train", "--json").out)
    assert (shown["split"], shown["part"], shown["held_out"]) == ("all", "all", None)
    assert "others has no test split, so all of its images are used" in said(outcome)
    assert "if the model was trained on some of them" not in said(outcome), "it was not, as their content shows"
    shutil.rmtree(pets)
    doubt = "others has no test split, so all of its images are used: if the model was trained on some of them"
    assert doubt in said(run_cli("eval", "others", "--model", "run"))


def test_a_class_without_images_is_not_wrong(run_cli: RunCli, pets: Path) -> None:
    for name in held_out(pets)["val"]:
        if name.startswith("cat"):
            (pets / name).unlink()
    outcome = run_cli("eval", "--split", "val", "--model", "run")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert any(line[:3] == ["cat", "-", "(0/0)"] for line in lines)
    assert any(line[:1] == ["dog"] and line[2:3] == ["%"] for line in lines)


@pytest.fixture
def table(run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path) -> Path:
    """A folder with a table in it, and one beside it; a run was trained with the latter."""
    folder = image_folder(tmp_path / "photos", {"all": 20})
    rows = "".join(f"{number:03}.png,{'even' if number % 2 == 0 else 'odd'},x\n" for number in range(20))
    (folder / "inner.csv").write_text("image,kind,other\n" + rows)
    shutil.copy(folder / "inner.csv", tmp_path / "odd.csv")
    options = ("--labels", "odd.csv", "--label-column", "kind", "--val-fraction", "0.2")
    assert run_cli("train", "photos", *tiny, *options, "--name", "run").code == 0
    return tmp_path / "odd.csv"


def test_a_table_that_was_moved_is_named(run_cli: RunCli, table: Path) -> None:
    table.rename(table.with_name("new.csv"))
    outcome = run_cli("eval", "--model", "run")
    assert outcome.code == 1
    assert "--labels FILE.csv" in outcome.err
    outcome = run_cli("eval", "--model", "run", "--labels", "new.csv", "--json")
    assert (outcome.code, json.loads(outcome.out)["metrics"]["images"]) == (0, 4), outcome.err
    (table.parent / "photos").rename(table.with_name("moved"))
    outcome = run_cli("eval", "moved", "--model", "run", "--labels", "new.csv", "--json")
    assert (outcome.code, json.loads(outcome.out)["metrics"]["images"]) == (0, 4), outcome.err


def test_a_table_that_moved_with_its_folder_is_found(run_cli: RunCli, table: Path, tiny: tuple[str, ...]) -> None:
    options = ("--labels", "inner.csv", "--label-column", "kind", "--val-fraction", "0.2")
    assert run_cli("train", "photos", *tiny, *options, "--name", "inner").code == 0
    (table.parent / "photos").rename(table.with_name("moved"))
    outcome = run_cli("eval", "moved", "--model", "inner", "--json")
    assert (outcome.code, json.loads(outcome.out)["metrics"]["images"]) == (0, 4), outcome.err


# fingerprints


def facts(folder: Path, directory: Path) -> Facts:
    return open_dataset(DataConfig(name=str(folder)), directory=directory).facts


@pytest.fixture
def folder(image_folder: ImageFolder, tmp_path: Path) -> Path:
    return image_folder(tmp_path / "here" / "pets", {"cat": 4, "dog": 4})


def test_the_same_data_elsewhere_have_the_same_fingerprint(folder: Path, tmp_path: Path) -> None:
    there = Path(shutil.copytree(folder, tmp_path / "there" / "animals", copy_function=shutil.copyfile))
    for number, path in enumerate(sorted(there.rglob("*.png"))):
        os.utime(path, (number, number))
    first, second = (facts(each, tmp_path / "data") for each in (folder, there))
    assert first.fingerprint == second.fingerprint
    assert (first.name, second.name) == ("pets", "animals")
    assert len(list((tmp_path / "data" / "prepared").iterdir())) == 2


def test_a_touched_file_is_prepared_anew_and_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    before = facts(folder, tmp_path / "data")
    os.utime(folder / "cat" / "000.png", (1, 1))
    assert facts(folder, tmp_path / "data").fingerprint == before.fingerprint
    assert len(list((tmp_path / "data" / "prepared").iterdir())) == 2


def change_size(folder: Path) -> None:
    with (folder / "cat" / "001.png").open("ab") as file:
        file.write(b"!")


def change_pixels(folder: Path) -> None:
    """Another image of the same size in bytes, as uncompressed images have."""
    content = bytearray((folder / "cat" / "001.png").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "cat" / "001.png").write_bytes(content)


def change_label(folder: Path) -> None:
    (folder / "cat" / "001.png").rename(folder / "dog" / "101.png")


def change_name(folder: Path) -> None:
    (folder / "cat" / "001.png").rename(folder / "cat" / "101.png")


def change_class(folder: Path) -> None:
    (folder / "cat").rename(folder / "cats")


def swap(folder: Path) -> None:
    """Two files of different sizes change places."""
    change_size(folder)
    (folder / "cat" / "000.png").rename(folder / "swapped")
    (folder / "cat" / "001.png").rename(folder / "cat" / "000.png")
    (folder / "swapped").rename(folder / "cat" / "001.png")


def divide(folder: Path) -> None:
    """The same images, now in a folder for training."""
    shutil.copytree(folder, folder / "train")
    for name in ("cat", "dog"):
        shutil.rmtree(folder / name)


@pytest.mark.parametrize("change", [change_size, change_pixels, change_label, change_name, change_class, swap, divide])
def test_changed_data_have_another_fingerprint(folder: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    before = facts(folder, tmp_path / "data").fingerprint
    change(folder)
    assert facts(folder, tmp_path / "data").fingerprint != before


def test_a_fingerprint_of_before_without_content_is_of_the_same_data(folder: Path, tmp_path: Path) -> None:
    now = facts(folder, tmp_path / "data").fingerprint
    before, plus, content = now.partition("+")
    assert plus == "+"
    assert content
    assert all(is_same_data(one, other) for one, other in ((before, now), (now, before), (now, now)))
    change_pixels(folder)
    changed = facts(folder, tmp_path / "data").fingerprint
    assert not is_same_data(now, changed)
    assert is_same_data(before, changed)
    assert not is_same_data(None, now)


def test_another_label_or_class_in_a_table_is_another_fingerprint(image_folder: ImageFolder, tmp_path: Path) -> None:
    """The files and their names stay as they are."""
    folder = image_folder(tmp_path / "table", {"photos": 4})
    rows = {"000": "cat", "001": "dog", "002": "cat", "003": "dog"}
    fingerprints = []
    for labels in (rows, rows | {"000": "dog"}, {name: label.upper() for name, label in rows.items()}, rows):
        (folder / "labels.csv").write_text("image,label\n" + "".join(f"{n},{label}\n" for n, label in labels.items()))
        found = facts(folder, tmp_path / "data")
        assert found.classes == tuple(sorted(set(labels.values())))
        fingerprints.append(found.fingerprint)
    assert len(set(fingerprints)) == 3
    assert fingerprints[0] == fingerprints[3]


def test_a_run_on_a_copy_is_evaluated_without_a_warning(run_cli: RunCli, pets: Path, tmp_path: Path) -> None:
    """The whole of it was moved to another machine, say."""
    moved = Path(shutil.copytree(pets, tmp_path / "elsewhere" / "pets", copy_function=shutil.copyfile))
    shutil.rmtree(pets)
    moved.parent.joinpath("pets").rename(pets)
    images, _, outcome = evaluated(run_cli, "val")
    assert images == 6
    assert "has changed" not in outcome.err


def test_test_images_that_were_scored_in_training_are_not_held_out(
    run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    image_folder(tmp_path / "pets", {"cat": 10, "dog": 10})
    words = ("--recipe", "cifar10-classic", "--set", "model.image_size=8", "--set", "model.name=vit-nano-patch4")
    trained = run_cli("train", "pets", *words, *tiny, "--epochs", "3", "--name", "run")
    assert trained.code == 0, trained.err
    assert "scored after every epoch, so they are not held out" in said(trained)
    run = Run(tmp_path / "experiments" / "run")
    assert [record["is_best"] for record in run.metrics["epochs"]] == [True] * 3, "the last epoch is kept"
    assert load_checkpoint(run.best_checkpoint).provenance["epoch"] == 3
    assert len(held_out(tmp_path / "pets")["test"]) == 4
    for split, images in (("test", 4), ("val", 4), ("train", 16)):
        outcome = run_cli("eval", "--split", split, "--json")
        result = json.loads(outcome.out)
        assert (result["metrics"]["images"], result["held_out"]) == (images, False)
        assert json.loads(Path(result["files"]["metrics"]).read_text())["held_out"] is False
    assert "not held out: these test images" in said(run_cli("eval"))
    assert "4 images (not held out)" in " ".join(run_cli("eval").out.split())
    resumed = run_cli("train", "--resume", "run", "--epochs", "4", "--json")
    assert resumed.code == 0, resumed.err


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--set", "data.val_split=test", "--set", "optim.keep=best"), "test images must choose neither an epoch"),
        (("--set", "data.val_split=test", "--set", "optim.keep=last", "--ema"), "nor an average of weights"),
        (("--set", "optim.keep=last", "--patience", "3"), "keep = 'last' knows none"),
    ],
)
def test_test_images_never_choose(run_cli: RunCli, words: tuple[str, ...], wrong: str) -> None:
    outcome = run_cli("train", *words, "--no-ema" if "--ema" not in words else "--seed=1")
    assert outcome.code == 2
    assert wrong in said(outcome)
