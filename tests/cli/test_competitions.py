"""Competitions and data sets of Kaggle, from download to submission, and folds: through ``vit`` and the real client."""

import csv
import io
import json
import math
import os
import random
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from kagglesdk import kaggle_env
from PIL import Image

from tests.conftest import Outcome
from tests.servers.kaggle import Kaggle, serving_kaggle
from vitcli.core import fetch
from vitcli.core.errors import DataError
from vitcli.core.events import Event, Note, Warned
from vitcli.core.runs import Run
from vitcli.data.submission import SubmissionForm, find_form

RunCli = Callable[..., Outcome]
CASSAVA, BUTTERFLIES = "cassava-leaf-disease-classification", "gpiosenka/butterfly-images40-species"
DISEASES = ("Bacterial Blight (CBB)", "Brown Streak Disease (CBSD)", "Green Mottle (CGM)", "Mosaic (CMD)", "Healthy")
SMALL = (
    *("--model", "vit-nano-patch4", "--set", "model.depth=1", "--image-size", "16"),
    *("--batch-size", "8", "--epochs", "1", "--seed", "0"),
)


def jpeg(size: tuple[int, int], colour: int, comment: str = "") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (40 * colour % 256, 90, 255 - 40 * colour % 256)).save(buffer, "JPEG", comment=comment)
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@cache
def cassava() -> bytes:
    """Fifty photos of five classes in the competition's layout, at the size of the real ones."""
    numbers = random.Random(0).sample(range(10**8, 10**9), 53)
    labels = {f"{number}.jpg": at % 5 for at, number in enumerate(numbers[:50])}
    tests = [f"{number}.jpg" for number in numbers[50:]]
    return zipped(
        {
            "train.csv": ("image_id,label\n" + "".join(f"{name},{label}\n" for name, label in labels.items())).encode(),
            "label_num_to_disease_map.json": json.dumps(dict(enumerate(DISEASES))).encode(),
            "sample_submission.csv": ("image_id,label\n" + "".join(f"{name},4\n" for name in tests[::-1])).encode(),
            **{f"train_images/{name}": jpeg((800, 600), label, comment=name) for name, label in labels.items()},
            **{f"test_images/{name}": jpeg((800, 600), at) for at, name in enumerate(tests)},
            "train_tfrecords/ld_train00-1338.tfrec": b"tfrecord",
            "test_tfrecords/ld_test00-1.tfrec": b"tfrecord",
        }
    )


@cache
def butterflies() -> bytes:
    photos = {
        f"{split}/{species}/{number:03d}.jpg": jpeg((224, 224), at)
        for split, count in (("train", 8), ("valid", 2), ("test", 2))
        for at, species in enumerate(("ADONIS", "AFRICAN GIANT SWALLOWTAIL", "ZEBRA LONG WING"))
        for number in range(count)
    }
    return zipped({**photos, "butterflies and moths.csv": b"class id,filepaths,labels\n", "EfficientNet.h5": b"model"})


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    for name in [name for name in os.environ if name.startswith("KAGGLE_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    monkeypatch.setattr(fetch, "_WAIT", 0.001)
    files = {CASSAVA: cassava(), BUTTERFLIES: butterflies()}
    with serving_kaggle(Kaggle(files=files, keys={"ada": "0123456789abcdef"})) as running:
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, running.address)
        yield running


def test_cassava_from_download_to_submission(run_cli: RunCli, kaggle: Kaggle, tmp_path: Path) -> None:
    kaggle.cuts = [5_000]
    downloaded = run_cli("download", "cassava")
    assert downloaded.code == 0, downloaded.err
    assert "50 train" in downloaded.out
    assert not list((tmp_path / "data").rglob("*.tfrec"))
    served = kaggle.served
    assert "already there" in run_cli("download", "cassava").out
    assert kaggle.served == served == len(kaggle.files[CASSAVA])

    trained = run_cli("train", *SMALL, "--recipe", "photos", "--test-fraction", "0.2", "--name", "leaves")
    assert trained.code == 0, trained.err
    assert "training on cassava (downloaded last)" in trained.err
    assert "labels in 'label'" in trained.err
    assert "the competition judges" not in trained.err
    run = Run(tmp_path / "experiments" / "leaves")
    held_out = run.split["held_out"]
    assert (len(held_out["val"]), len(held_out["test"])) == (5, 10)
    assert all(name.startswith("train_images/") for name in held_out["val"])
    judged = run_cli("eval", "--json")
    assert judged.code == 0, judged.err
    metrics = json.loads(judged.out)["metrics"]
    assert metrics["images"] == 10
    assert [each["name"] for each in metrics["classes"]] == list(DISEASES)

    written = run_cli("predict", "--submission", "out/submission.csv")
    assert written.code == 0, written.err
    assert f"kaggle competitions submit -c {CASSAVA} -f out/submission.csv" in written.err
    rows = rows_of(Path("out/submission.csv"))
    sample = tmp_path / "data" / "downloads" / "cassava" / "sample_submission.csv"
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in rows_of(sample)]
    single = json.loads(run_cli("predict", sample.parent / "test_images", "--json").out)["rows"]
    predicted = {Path(row["path"]).name: str(DISEASES.index(row["classes"][0])) for row in single}
    assert {row["image_id"]: row["label"] for row in rows} == predicted

    before = sample.read_bytes()
    refused = run_cli("predict", "--submission", sample)
    assert "is the sample submission, and would be replaced" in refused.err
    labels = sample.parent / "train.csv"
    assert "is a file of another kind, and would be replaced" in run_cli("predict", "--submission", labels).err
    assert run_cli("predict", "--submission", "out/submission.csv").code == 0, "its own may be replaced"
    assert sample.read_bytes() == before
    Path("notes.txt").write_text("mine")
    assert "is a file of another kind" in run_cli("predict", "--submission", "notes.txt").err
    written = run_cli("predict", "--submission", "my shares.csv", "--probabilities")
    assert "-f 'my shares.csv' -m vit" in written.err
    assert "columns     image_id, 0, 1, 2, 3, 4" in written.out, written.err
    for row in rows_of(Path("my shares.csv")):
        shares = {label: float(row[label]) for label in "01234"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert max(shares, key=shares.__getitem__) == predicted[row["image_id"]]


@pytest.mark.usefixtures("kaggle")
@pytest.mark.parametrize("recipe", ["photos", "cassava"])
def test_of_a_competition_no_labelled_images_are_held_out_for_testing(
    run_cli: RunCli, tmp_path: Path, recipe: str
) -> None:
    fresh = ("--recipe", recipe, "--set", "run.init_from=", "--set", "optim.layer_decay=1", "--name", "all")
    trained = run_cli("train", "cassava", *SMALL, *fresh)
    assert trained.code == 0, trained.err
    why = "the competition judges on test_images/, so no labelled images are held out for testing"
    assert f"{why}; --test-fraction 0.2 holds some out" in trained.err
    assert {name: len(names) for name, names in Run(tmp_path / "experiments" / "all").split["held_out"].items()} == {
        "val": 5
    }
    assert "evaluates it on the validation images" in trained.err
    assert "vit predict --submission submission.csv  predicts the test images of the competition" in trained.err
    lost = next((tmp_path / "data" / "downloads" / "cassava" / "test_images").iterdir())
    lost.unlink()
    refused = run_cli("predict", "--submission", "submission.csv", "--model", "all")
    assert f"for example {lost.name!r}" in refused.err
    assert "hint: download the data again" in refused.err


@pytest.mark.usefixtures("kaggle")
def test_the_recipe_of_a_data_set_brings_its_weights_unless_a_model_is_named(run_cli: RunCli) -> None:
    assert run_cli("download", "cassava").code == 0
    refused = run_cli("train", "cassava", "--offline")
    assert refused.code == 1
    assert "vit_base_patch16_384" in refused.err
    assert run_cli("train", "cassava", *SMALL, "--offline", "--set", "optim.layer_decay=1").code == 0


@pytest.mark.usefixtures("kaggle")
def test_butterflies_from_download_to_evaluation(run_cli: RunCli, tmp_path: Path) -> None:
    downloaded = run_cli("download", "butterflies")
    assert downloaded.code == 0, downloaded.err
    assert all(count in downloaded.out for count in ("24 train", "6 val", "6 test"))
    assert not list((tmp_path / "data").rglob("*.h5"))
    trained = run_cli("train", *SMALL, "--recipe", "photos")
    assert trained.code == 0
    assert "--submission" not in trained.err
    assert run_cli("eval").code == 0
    refused = run_cli("predict", "--submission", "submission.csv")
    assert refused.code == 1
    assert not Path("submission.csv").exists()


@pytest.mark.usefixtures("kaggle")
def test_any_name_of_kaggle_can_be_fetched_and_trained_on(run_cli: RunCli) -> None:
    assert run_cli("download", f"kaggle:{BUTTERFLIES}").code == 0
    trained = run_cli("train", *SMALL, "--recipe", "photos")
    assert trained.code == 0, trained.err
    assert f"training on kaggle:{BUTTERFLIES} (downloaded last)" in trained.err
    assert f"data                 kaggle:{BUTTERFLIES}: 3 classes" in trained.out
    judged = run_cli("eval", "--json")
    assert json.loads(judged.out)["dataset"] == f"kaggle:{BUTTERFLIES}"
    assert run_cli("eval", f"https://www.kaggle.com/datasets/{BUTTERFLIES}").code == 0
    for listing in ("download", "datasets"):
        (row,) = [row for row in json.loads(run_cli(listing, "--json").out) if row["name"].startswith("kaggle:")]
        assert (row["name"], row["present"]) == (f"kaggle:{BUTTERFLIES}", True)


@pytest.mark.usefixtures("kaggle")
def test_an_address_of_kaggle_is_the_name_of_what_is_there(run_cli: RunCli) -> None:
    address = f"kaggle.com/datasets/{BUTTERFLIES}?resource=download"
    downloaded = run_cli("download", address, "--json")
    assert json.loads(downloaded.out)["name"] == f"kaggle:{BUTTERFLIES}", downloaded.err
    trained = run_cli("train", address, *SMALL, "--recipe", "photos", "--json")
    assert json.loads(trained.out)["dataset"] == f"kaggle:{BUTTERFLIES}", trained.err


@pytest.mark.usefixtures("kaggle")
def test_a_download_that_is_gone_is_missed(run_cli: RunCli, tiny: tuple[str, ...], tmp_path: Path) -> None:
    assert run_cli("download", "butterflies").code == 0
    shutil.rmtree(tmp_path / "data" / "downloads" / "butterflies")
    trained = run_cli("train", *tiny)
    assert "training on digits (bundled; butterflies, which was downloaded last, is gone)" in trained.err


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [
        ("kaggle:nobody/nothing", "no data set 'nobody/nothing'", 1),
        ("kaggle:no-such-cup", "no competition 'no-such-cup'", 1),
        ("kaggle:what/ever/else", "is not a name on Kaggle", 2),
        ("casava", "did you mean 'cassava'?", 1),
    ],
)
@pytest.mark.usefixtures("kaggle")
def test_what_kaggle_does_not_have_is_said(run_cli: RunCli, name: str, said: str, code: int) -> None:
    for command in ("download", "train"):
        outcome = run_cli(command, name)
        assert outcome.code == code
        assert said in outcome.err


def test_the_rules_of_a_competition_have_to_be_accepted(run_cli: RunCli, kaggle: Kaggle) -> None:
    kaggle.closed = (CASSAVA,)
    outcome = run_cli("download", "cassava")
    assert outcome.code == 1
    assert f"https://www.kaggle.com/competitions/{CASSAVA}/rules" in outcome.err


def test_nothing_is_fetched_offline(run_cli: RunCli, kaggle: Kaggle) -> None:
    for words in (("download", "cassava"), ("train", "cassava"), ("train", "mnist")):
        outcome = run_cli(*words, "--offline")
        assert outcome.code == 1
        assert "must not be fetched" in outcome.err
    assert kaggle.asked == []


def test_folds_are_runs_and_are_averaged(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    trained = run_cli("train", shapes, *tiny, "--folds", "3", "--name", "cross", "--json")
    assert trained.code == 0, trained.err
    result = json.loads(trained.out)
    assert [fold["run"] for fold in result["folds"]] == ["cross/fold-1", "cross/fold-2", "cross/fold-3"]
    assert json.loads((tmp_path / "experiments/cross/folds.json").read_text())["val_accuracy"] == result["val_accuracy"]
    held_out = [set(Run(tmp_path / f"experiments/cross/fold-{fold}").split["held_out"]["val"]) for fold in (1, 2, 3)]
    assert len(set.union(*held_out)) == sum(map(len, held_out))
    images = sorted(map(str, shapes.rglob("*.png")))[:4]
    single = [
        json.loads(run_cli("predict", *images, "--model", f"cross/fold-{fold}", "--top-k", "9", "--json").out)["rows"]
        for fold in (1, 2, 3)
    ]
    for model in ("cross", "cross/fold-*", "experiments/cross/fold-*"):
        averaged = json.loads(run_cli("predict", *images, "--model", model, "--top-k", "9", "--json").out)["rows"]
        for at, row in enumerate(averaged):
            each = [dict(zip(rows[at]["classes"], rows[at]["probabilities"], strict=True)) for rows in single]
            for name, value in zip(row["classes"], row["probabilities"], strict=True):
                assert value == pytest.approx(sum(fold[name] for fold in each) / 3, abs=1e-6)
    assert "cross/fold-2" in run_cli("runs").out
    assert run_cli("eval", "--model", "cross/fold-2").code == 0
    assert run_cli("train", shapes, *tiny, "--folds", "3", "--fold", "2", "--name", "cross").code == 1
    again = run_cli("train", shapes, *tiny, "--folds", "3", "--fold", "2", "--name", "cross", "--overwrite")
    assert again.code == 0, again.err
    assert (tmp_path / "experiments/cross/fold-1/run.json").exists()


@pytest.fixture(scope="module")
def cross_validation(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of three folds."""
    output_dir = tmp_path_factory.mktemp("folds")
    words = (*tiny, "--folds", "3", "--name", "cv", "--output-dir", output_dir, "--data-dir", output_dir / "data")
    assert run_cli("train", shapes, *words).code == 0
    return output_dir / "cv"


def test_a_cross_validation_is_judged_by_the_mean_of_its_folds(
    run_cli: RunCli, shapes: Path, cross_validation: Path
) -> None:
    here = ("--output-dir", cross_validation.parent)
    judged = run_cli("eval", "--model", "cv", "--json", *here)
    assert judged.code == 0, judged.err
    names = "cv/fold-1, cv/fold-2, cv/fold-3"
    assert f"model: the mean of 3 models: {names}" in judged.err
    result = json.loads(judged.out)
    assert (result["models"], result["model"], result["split"]) == (3, names, "test")
    assert result["files"]["metrics"] == str(cross_validation / "evaluations" / "test.json")
    assert Path(result["files"]["confusion figure"]).is_file()
    held_out = Run(cross_validation / "fold-1").split["held_out"]["test"]
    words = ("--model", "cv", "--top-k", "2", "--json", *here)
    rows = json.loads(run_cli("predict", *(shapes / name for name in held_out), *words).out)["rows"]
    of_truth = [
        dict(zip(row["classes"], row["probabilities"], strict=True))[Path(name).parts[0]]
        for row, name in zip(rows, held_out, strict=True)
    ]
    assert result["metrics"]["loss"] == pytest.approx(-sum(map(math.log, of_truth)) / len(rows), abs=1e-5)
    assert result["metrics"]["top1"] == pytest.approx(sum(share > 0.5 for share in of_truth) / len(rows))
    shown = run_cli("eval", "--model", cross_validation)
    assert f"the mean of 3 models: {names}" in shown.out


def test_a_cross_validation_has_a_row_of_its_own_with_its_mean_and_spread(
    run_cli: RunCli, cross_validation: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(cross_validation, tmp_path / "experiments" / "cv")
    tested = json.loads(run_cli("eval", "--json").out)["metrics"]["top1"]
    summary = json.loads((folder / "folds.json").read_text())
    rows = json.loads(run_cli("runs", "--json").out)
    assert [row["name"] for row in rows] == ["cv", "cv/fold-3", "cv/fold-2", "cv/fold-1"]
    row = rows[0]
    assert (row["status"], row["folds"], row["folds_finished"], row["epochs"]) == ("finished", 3, 3, 1)
    assert (row["val_accuracy"], row["val_accuracy_spread"], row["test_accuracy"]) == (
        pytest.approx(summary["val_accuracy"]),
        pytest.approx(summary["val_accuracy_spread"]),
        tested,
    )
    assert (rows[1]["folds"], rows[1]["val_accuracy_spread"], rows[1]["best_epoch"]) == (None, None, 1)
    shown = run_cli("runs").out.splitlines()
    mean, spread = 100 * summary["val_accuracy"], 100 * summary["val_accuracy_spread"]
    assert shown[1].split() == f"cv finished 1 {mean:.2f} ± {spread:.2f} % {100 * tested:.2f} %".split()
    assert (
        shown[2].strip()
        == f"{row['started'][:10]}, shapes, {row['model']} ({row['changed_sizes']}), recipe {row['recipe']}"
    )
    assert row["model"]
    assert row["recipe"]
    Run(folder / "fold-1").note(status="interrupted")
    shutil.rmtree(folder / "fold-2")
    (row, *_) = json.loads(run_cli("runs", "--json").out)
    best = Run(folder / "fold-3").metrics["best"]["val_accuracy"]
    assert (row["status"], row["folds_finished"]) == ("unfinished", 1)
    assert (row["val_accuracy"], row["val_accuracy_spread"]) == (best, None)
    assert "1 of 3 folds" in run_cli("runs").out


def test_after_a_cross_validation_all_of_it_is_what_was_trained_last(
    run_cli: RunCli, cross_validation: Path, digit: Path
) -> None:
    here = ("--output-dir", cross_validation.parent)
    for words in (("predict", digit), ("eval",)):
        outcome = run_cli(*words, *here)
        assert outcome.code == 0, outcome.err
        assert "the mean of 3 models, the newest cross-validation: cv/fold-1, cv/fold-2, cv/fold-3" in outcome.err


def test_several_models_are_not_judged_on_what_one_of_them_has_seen(run_cli: RunCli, cross_validation: Path) -> None:
    for model, split in (("cv", "train"), ("cv/fold-[12]", "val")):
        outcome = run_cli("eval", "--model", model, "--split", split, "--output-dir", cross_validation.parent)
        assert outcome.code == 1
        assert "scores may be too high" not in outcome.err, "there are no scores"
        assert (
            f"some of these {2 if split == 'val' else 3} models were trained on images that others held out"
            in outcome.err
        )
        assert "/cv/fold-1` evaluates one" in outcome.err


@pytest.mark.parametrize("words", [("export",), ("attention-map", "IMAGE", "--model")])
def test_what_takes_one_model_names_the_first_fold(
    run_cli: RunCli, cross_validation: Path, digit: Path, words: tuple[str, ...]
) -> None:
    command = [digit if word == "IMAGE" else word for word in words]
    outcome = run_cli(*command, "cv", "--output-dir", cross_validation.parent)
    assert outcome.code == 1
    assert "error: 'cv' is a cross-validation of 3 models, but one model is needed" in outcome.err
    assert "hint: name one of them: cv/fold-1" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folds", "1"), "--folds 1 is not 2 or more"),
        (("--fold", "2"), "--fold 2 is one of several folds, but their number is missing"),
        (("--folds", "3", "--fold", "4"), "--fold 4 is not one of 3 folds"),
        (("--folds", "50"), "no class has 50 different images"),
    ],
)
def test_folds_that_cannot_be(run_cli: RunCli, shapes: Path, words: tuple[str, ...], said: str) -> None:
    outcome = run_cli("train", shapes, *words)
    assert outcome.code in {1, 2}
    assert said in outcome.err


def test_either_images_or_a_submission(run_cli: RunCli, trained_run: Path) -> None:
    for words in ((), ("a.png", "--submission", "b.csv")):
        outcome = run_cli("predict", *words, "--output-dir", trained_run.parent)
        assert outcome.code == 2
        assert "either IMAGE... or --submission FILE" in outcome.err
    assert "--submission takes a file" in run_cli("predict", "--submission", "-").err
    outcome = run_cli("predict", "a.png", "--probabilities")
    assert outcome.code == 2
    assert "--probabilities belongs to --submission FILE" in outcome.err


def test_a_submission_has_labels_or_probabilities() -> None:
    def filled(columns: tuple[str, ...], values: tuple[str, ...], *, asked: bool) -> str:
        form = SubmissionForm(columns=columns, rows=(("a", Path("a.png")), ("b", Path("b.png"))))
        return form.filled(("cat", "dog"), values, [[0.25, 0.75], [1.0, 0.0]], with_probabilities=asked)[1]

    label, shares = ("id", "label"), "a,0.250000,0.750000\nb,1.000000,0.000000\n"
    assert filled(label, ("c", "d"), asked=False) == "id,label\na,d\nb,c\n"
    assert filled(label, ("c", "d"), asked=True) == f"id,c,d\n{shares}"
    assert filled(label, ("1", "0"), asked=True) == "id,label\na,0.250000\nb,1.000000\n"
    for asked in (False, True):
        assert filled(("id", "cat", "dog"), ("c", "d"), asked=asked) == f"id,cat,dog\n{shares}"
        assert filled(("id", "d", "c"), ("c", "d"), asked=asked) == "id,d,c\na,0.750000,0.250000\nb,0.000000,1.000000\n"


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Five test images of a competition, in two folders, without a sample submission."""
    for name in ("a/0", "a/1", "a/2", "b/3", "b/4"):
        file = tmp_path / "leaves" / "test" / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg((32, 32), 1))
    return tmp_path / "leaves"


def sample_of(folder: Path, name: str, images: int = 5) -> Path:
    path = folder / name
    path.write_text("id,label\n" + "".join(f"{at}.jpg,0\n" for at in range(images)))
    return path


def test_the_sample_submission_is_the_file_that_is_called_so_and_is_named(leaves: Path) -> None:
    sample_of(leaves, "my_submission.csv", 1)
    sample, told = sample_of(leaves, "sample_submission.csv"), list[Event]()
    assert find_form(leaves, told.append).sample == sample
    assert told == [Note(text=f"sample submission: {sample}, with 5 rows")]


def test_of_several_sample_submissions_none_is_taken(leaves: Path) -> None:
    for name in ("best_submission.csv", "my_submission.csv"):
        sample_of(leaves, name)
    with pytest.raises(DataError, match=r"2 files that may be .*: best_submission.csv, my_submission.csv") as refused:
        find_form(leaves)
    assert "move all but the one of the competition" in refused.value.hint


def test_a_sample_submission_that_lacks_images_is_warned_of(leaves: Path) -> None:
    told = list[Event]()
    assert len(find_form(sample_of(leaves, "best_submission.csv", 1).parent, told.append).rows) == 1
    assert [type(event) for event in told] == [Note, Warned]
    assert f"does not name 4 images of {leaves / 'test'}" in str(told[1])


def test_without_a_sample_submission_columns_and_names_are_guessed_and_said(leaves: Path) -> None:
    told = list[Event]()
    assert [name for name, _ in find_form(leaves, told.append).rows] == [f"{at}.jpg" for at in range(5)]
    assert "has no sample submission: the columns are guessed (image_id, label)" in str(told[0])
    shutil.copy(leaves / "test" / "a" / "0.jpg", leaves / "test" / "b")
    names = [name for name, _ in find_form(leaves, told.append).rows]
    assert names == ["a/0.jpg", "a/1.jpg", "a/2.jpg", "b/0.jpg", "b/3.jpg", "b/4.jpg"]
    assert "images are called by their paths in test/" in str(told[1])


@pytest.mark.parametrize(
    ("labels", "cell", "said"),
    [
        (("0", "1"), "0.5", "the probability of label 1"),
        (("0.0", "1.0"), "0.5", "the probability of label 1"),
        (("2", "3"), "0.5", "--probabilities writes"),
        (("0", "1"), "nan", ""),
    ],
)
def test_fractions_in_the_sample_ask_for_probabilities(
    run_cli: RunCli, tmp_path: Path, labels: tuple[str, str], cell: str, said: str
) -> None:
    folder = tmp_path / "cactus"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        for at in range(20):
            (folder / part / f"{part}-{at}.jpg").write_bytes(jpeg((32, 32), at))
    rows = "".join(f"train-{at}.jpg,{labels[at % 2]}\n" for at in range(20))
    (folder / "train.csv").write_text(f"id,has_cactus\n{rows}")
    sample = "".join(f"test-{at}.jpg,{cell}\n" for at in range(20))
    (folder / "sample_submission.csv").write_text(f"id,has_cactus\n{sample}")
    assert run_cli("train", folder, *SMALL, "--name", "cactus").code == 0
    written = run_cli("predict", "--submission", "mine.csv")
    assert written.code == 0
    assert ("column has_cactus" in written.err) == bool(said)
    assert said in written.err
    answers = {row["id"]: float(row["has_cactus"]) for row in rows_of(Path("mine.csv"))}
    predicted = json.loads(run_cli("predict", folder / "test", "--top-k", "2", "--json").out)["rows"]
    for row in predicted:
        share = dict(zip(row["classes"], row["probabilities"], strict=True))
        expected = pytest.approx(share[labels[1]], abs=1e-5) if "label 1" in said else int(row["classes"][0])
        assert answers[Path(row["path"]).name] == expected


def test_folds_of_an_earlier_cross_validation_do_not_stay(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    assert run_cli("train", shapes, *tiny, "--folds", "3", "--name", "cv").code == 0
    assert run_cli("eval", "--model", "cv").code == 0
    outcome = run_cli("train", shapes, *tiny, "--folds", "2", "--name", "cv", "--overwrite")
    assert outcome.code == 0
    assert not (tmp_path / "experiments" / "cv" / "evaluations").exists()
    facts = dict(re.findall(r"^(.+?)  +([\d.± %]+)$", outcome.out, re.MULTILINE))
    first, second = (float(facts[f"cv/fold-{fold}"].split()[0]) for fold in (1, 2))
    mean, _, deviation = facts["mean ± deviation"].rstrip(" %").partition(" ± ")
    assert float(mean) == pytest.approx((first + second) / 2, abs=0.01)
    assert float(deviation) == pytest.approx(abs(first - second) / 2**0.5, abs=0.02)  # of a sample of two
    assert not (tmp_path / "experiments" / "cv" / "fold-3").exists()
    again = ("--folds", "2", "--name", "cv", "--overwrite")
    assert run_cli("train", tmp_path / "absent", *tiny, *again).code == 1
    assert (tmp_path / "experiments" / "cv" / "fold-2" / "run.json").exists()  # a mistake costs nothing
    assert run_cli("train", shapes, *tiny, "--name", "plain").code == 0
    refused = run_cli("train", shapes, *tiny, "--folds", "2", "--name", "plain")
    assert refused.code == 1
    assert "cannot hold several runs" in refused.err
    image = next(shapes.rglob("*.png"))
    pattern = tmp_path / "experiments" / "cv" / "fold-*"
    assert run_cli("predict", image, "--model", pattern).code == 0
    info = tmp_path / "experiments" / "cv" / "fold-2" / "run.json"
    info.write_text(info.read_text().replace('"finished"', '"failed"'))
    averaged = run_cli("predict", image, "--model", "cv")
    assert "left out of the mean: cv/fold-2 (failed)" in averaged.err


def test_single_folds_without_a_name_come_together(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    for fold in (1, 2):
        assert run_cli("train", shapes, *tiny, "--folds", "2", "--fold", fold).code == 0
    (folder,) = (tmp_path / "experiments").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["fold-1", "fold-2", "folds.json", "out-of-fold.csv"]


def test_a_table_inside_the_folder_is_found_again(
    run_cli: RunCli, image_folder: Callable[..., Path], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "photos", {"pictures": 20})
    rows = [f"{file.name},{'ab'[at % 2]}" for at, file in enumerate(sorted((folder / "pictures").iterdir()))]
    (folder / "inner.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    assert run_cli("train", "photos", *tiny, "--labels", "inner.csv").code == 0
    judged = run_cli("eval")
    assert judged.code == 0, judged.err
