"""vit attention-map as a user types it, with what it prints, draws and leaves on disk."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file

from vitcli.attention.registry import EVERY_METHOD, METHODS
from vitcli.cli.attention_report import facts_of
from vitcli.core.runs import Run
from vitcli.core.short_names import class_slugs
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.explaining.pictures import save_arrays
from vitcli.explaining.report import ExplainedImage

RunCli = Callable[..., Any]
Words = tuple[str, ...]


def as_json(outcome: Any) -> Any:
    """What a command printed with ``--json``: that, and nothing else."""
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def is_picture(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format in {"PNG", "GIF"} and min(image.size) > 200


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture(scope="module")
def two_layers(
    run_cli: RunCli, shapes: Path, data_dir: Path, tiny: Words, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two blocks of two heads each, on images of two classes: left and right."""
    output_dir = tmp_path_factory.mktemp("two-layers")
    words = ("--set", "model.depth=2", "--model", "vit-nano-patch2", "--name", "two")
    assert run_cli("train", shapes, *tiny, *words, "--output-dir", output_dir, "--data-dir", data_dir).code == 0
    return output_dir / "two"


@pytest.fixture
def explain(run_cli: RunCli, two_layers: Path, tmp_path: Path) -> Callable[..., Any]:
    """Explain with that run into ``maps``, and parse what is printed."""

    def call(*words: object) -> Any:
        return as_json(run_cli("attention-map", "--model", two_layers, "-o", tmp_path / "maps", "--json", *words))

    return call


@pytest.mark.pictures
@pytest.mark.parametrize("method", METHODS)
def test_each_method_draws_a_map(run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path, method: str) -> None:
    words = ("--model", trained_run, "--method", method, "--output", tmp_path / "maps")
    (image,) = as_json(run_cli("attention-map", digit, *words, "--json"))["images"]
    (drawn,) = image["maps"]
    label = f"{method}.{image['predicted']}" if METHODS[method].chooses_class else method
    assert drawn["method"] == method
    assert drawn["target"] == (image["predicted"] if METHODS[method].chooses_class else "")
    assert np.shape(drawn["weights"]) == (4, 4)
    assert np.any(drawn["weights"])
    if METHODS[method].needs == "attention":
        assert drawn["prefix_share"] + np.sum(drawn["weights"]) == pytest.approx(1, abs=1e-5)
    assert image["figures"] == {label: str(tmp_path / "maps" / f"digit.{label}.png")}
    assert is_picture(Path(image["figures"][label]))
    assert names_in(tmp_path / "maps") == {f"digit.{label}.png", "digit.npz", "report.json"}


def test_relevance_of_the_predicted_class_is_what_one_gets(explain: Callable[..., Any], digit: Path) -> None:
    plain = explain(digit)
    asked = explain(digit, "--method", "relevance", "--class", "pred", "--target", "logit")
    assert plain["images"] == asked["images"]
    assert explain(digit, "--target", "contrast")["images"] != plain["images"]


CHOICES: dict[str, Words] = {
    "raw": ("--method", "raw"),
    "raw of the last layer": ("--method", "raw", "--layers", "-1"),
    "raw of the first layer": ("--method", "raw", "--layers", "0"),
    "greatest head": ("--method", "raw", "--head-fusion", "max"),
    "least head": ("--method", "raw", "--head-fusion", "min"),
    "strongest patches": ("--method", "raw", "--mass", "0.5"),
    "rollout": ("--method", "rollout"),
    "rollout of both layers": ("--method", "rollout", "--layers", "1, 0,-2"),
    "rollout of head 1": ("--method", "rollout", "--heads", "1"),
    "rollout of the last head": ("--method", "rollout", "--heads", "-1"),
    "rollout of strong attention": ("--method", "rollout", "--discard", "0.9"),
    "ig": ("--method", "ig"),
    "ig in 2 steps": ("--method", "ig", "--steps", "2"),
}


@pytest.fixture(scope="module")
def maps(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, NDArray[np.float64]]:
    """Patch weights of one image for every choice of layers, heads and fusion."""
    words = ("--model", two_layers, "--output", tmp_path_factory.mktemp("maps"), "--json")
    drawn = {name: as_json(run_cli("attention-map", digit, *words, *choice)) for name, choice in CHOICES.items()}
    return {name: np.array(report["images"][0]["maps"][0]["weights"]) for name, report in drawn.items()}


def test_layers_heads_and_fusions_decide_on_the_map(maps: dict[str, NDArray[np.float64]]) -> None:
    different = [name for name in CHOICES if name.split(" of the last")[0] == name and "both" not in name]
    assert len({maps[name].tobytes() for name in different}) == len(different)


def test_layers_and_heads_count_from_the_end_too_and_default_as_the_help_says(
    maps: dict[str, NDArray[np.float64]],
) -> None:
    assert np.array_equal(maps["raw"], maps["raw of the last layer"])
    assert np.array_equal(maps["rollout"], maps["rollout of both layers"])
    assert np.array_equal(maps["rollout of head 1"], maps["rollout of the last head"])


def test_the_mean_over_heads_lies_between_the_least_and_the_greatest(maps: dict[str, NDArray[np.float64]]) -> None:
    assert (maps["least head"] <= maps["raw"]).all()
    assert (maps["raw"] <= maps["greatest head"]).all()


@pytest.mark.parametrize(
    ("words", "named", "hint"),
    [
        (("--layers", "2"), "layer 2", "2 layers, counted from 0"),
        (("--layers", "-3"), "layer -3", "2 layers, counted from 0"),
        (("--heads", "2"), "head 2", "2 heads, counted from 0"),
        (("--layers", "one"), "'one'", "--layers 0,1,-1"),
        (("--heads", "0;1"), "'0;1'", "--heads 0,1,-1"),
        (("--method", "rollouts"), "'rollouts'", "'rollout'"),
        (("--class", "lift"), "'lift'", "'left'"),
        (("--class", "2"), "'2'", "an index below 2"),
        (("--discard", "1"), "discard = 1", ""),
        (("--mass", "0"), "mass = 0", ""),
        (("--steps", "0"), "steps = 0", ""),
        (("--query", "4,0"), "row 4", "4 x 4"),
        (("--query", "100,0px"), "pixel 100,0", "columns 0 to 7 and rows 0 to 7"),
        (("--query", "here"), "'here'", "ROW,COLUMN"),
        (("--query", "1,1", "--method", "relevance"), "relevance", "--method raw"),
        (("--cmap", "infern"), "'infern'", "inferno"),
        (("--split", "val"), "not from both", ""),
    ],
)
def test_what_is_not_there_is_named(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path, words: Words, named: str, hint: str
) -> None:
    outcome = run_cli("attention-map", digit, "--model", two_layers, "--output", tmp_path / "maps", *words)
    assert outcome.code in {1, 2}
    assert named in outcome.err
    assert hint in outcome.err
    assert names_in(tmp_path / "maps") == set()


def test_images_have_to_come_from_somewhere(run_cli: RunCli, two_layers: Path, digit: Path) -> None:
    assert run_cli("attention-map", "--model", two_layers).code == 2
    assert run_cli("attention-map", digit, "--grid", "4", "--model", two_layers).code == 2


@pytest.mark.pictures
def test_maps_go_into_the_run_unless_told_otherwise(run_cli: RunCli, two_layers: Path, shapes: Path) -> None:
    files = shapes / "left" / "000.png", shapes / "right" / "000.png"
    outcome = run_cli("attention-map", *files, "--model", two_layers, "--method", "rollout")
    assert outcome.code == 0
    expected = [two_layers / "attention" / name for name in ("000.rollout.png", "000-2.rollout.png")]
    assert all(is_picture(path) for path in expected)
    assert all(str(path) in outcome.out for path in expected)


@pytest.mark.pictures
def test_one_file_holds_one_picture_and_nothing_lies_beside_it(
    run_cli: RunCli, two_layers: Path, shapes: Path, digit: Path, tmp_path: Path
) -> None:
    words = ("--model", two_layers, "--output", tmp_path / "maps" / "map.png")
    refused = {
        "there are 10 images": (shapes / "left",),
        "9 pictures are asked for": (digit, "--method", "all"),
        "2 pictures are asked for": (digit, "--compare", "--heads-grid"),
        "--gif writes other files": (digit, "--gif"),
        "--arrays safetensors writes other files": (digit, "--arrays", "safetensors"),
    }
    for message, more in refused.items():
        outcome = run_cli("attention-map", *more, *words)
        assert outcome.code in {1, 2}
        assert message in outcome.err
        assert "give a folder" in outcome.err
        assert ("--compare" in outcome.err) == ("all" in more)
        assert names_in(tmp_path / "maps") == set()
    one_map = ("--method", "rollout", "--class", "left,right")  # the same for all classes
    for more in ((), ("--compare",), ("--heads-grid",), ("--blocks",), one_map):
        outcome = run_cli("attention-map", digit, *words, *more)
        assert outcome.code == 0
        assert (f"replaced {tmp_path / 'maps' / 'map.png'}; another --output keeps both" in outcome.err) == bool(more)
        assert names_in(tmp_path / "maps") == {"map.png"}
        assert is_picture(tmp_path / "maps" / "map.png")
    ending = "a picture is a .png, .pdf or .svg file"
    for name in ("moving.gif", "page.html"):
        option = "--gif" if name.endswith("gif") else "--html"
        outcome = run_cli("attention-map", digit, *words[:2], option, "-o", tmp_path / name)
        assert ending in outcome.err
        folder = f"{(tmp_path / name).with_suffix('')}/"
        assert f"--output {folder}, the folder for what --gif and --html write" in " ".join(outcome.err.split())
        assert run_cli("attention-map", digit, *words[:2], option, "-o", folder).code == 0
    for name in ("map.jpg", "map.docx"):
        outcome = run_cli("attention-map", digit, *words[:2], "-o", tmp_path / name)
        assert outcome.code in {1, 2}
        assert ending in outcome.err
        assert f"--output {tmp_path / 'map.pdf'}, or a folder" in " ".join(outcome.err.split())
    (tmp_path / "folder.pdf").mkdir()
    for name in ("maps.v2", "folder.pdf"):
        assert run_cli("attention-map", digit, *words[:2], "-o", tmp_path / name).code == 0
        assert "report.json" in names_in(tmp_path / name)


@pytest.mark.parametrize("ending", ["PDF", "svg"])
def test_a_vector_picture_is_what_its_ending_says(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path, ending: str
) -> None:
    words = ("--model", two_layers, "--font-size", "12", "--dpi", "100")
    assert run_cli("attention-map", digit, *words, "-o", tmp_path / f"one.{ending}").code == 0
    assert (tmp_path / f"one.{ending}").read_bytes().startswith(b"%PDF" if ending == "PDF" else b"<?xml")
    assert names_in(tmp_path) == {f"one.{ending}"}
    if ending == "svg":
        caption = r"relevance for (left|right) \(\d+\.\d %\)"
        assert re.search(caption, (tmp_path / "one.svg").read_text()), "with the probability of the class"


def test_dots_per_inch_and_letters_have_limits(run_cli: RunCli, two_layers: Path, digit: Path) -> None:
    for words, message in ((("--dpi", "5"), "30 to 1200 dpi"), (("--font-size", "100"), "4 to 40 points")):
        outcome = run_cli("attention-map", digit, "--model", two_layers, *words)
        assert outcome.code == 2
        assert message in outcome.err


def test_several_classes_get_a_map_each_and_the_same_one_just_one(
    run_cli: RunCli, explain: Callable[..., Any], digit: Path, two_layers: Path, tmp_path: Path
) -> None:
    (image,) = explain(digit, "--class", "left,right", "--class", "pred", "--method", "relevance,raw")["images"]
    assert [(each["method"], each["target"]) for each in image["maps"]] == [
        ("relevance", "left"),
        ("relevance", "right"),
        ("raw", ""),
    ]
    left, right, raw = (each["probability"] for each in image["maps"])
    assert (left + right, raw) == (pytest.approx(1), None)
    assert image["probability"] == max(left, right)
    assert {"digit.relevance.left.png", "digit.relevance.right.png", "digit.raw.png"} <= names_in(tmp_path / "maps")
    other = min(("left", left), ("right", right), key=lambda each: each[1])
    told = run_cli("attention-map", digit, "--class", other[0], "--model", two_layers)
    assert re.search(rf"explained +{other[0]} \({100 * other[1]:.2f} %\)\n", told.out)
    assert "explained" not in run_cli("attention-map", digit, "--model", two_layers).out
    told = run_cli("attention-map", digit, "--class", "left", "--method", "raw", "--model", two_layers)
    assert "the same map for every class" in told.err


def test_options_without_effect_are_named(run_cli: RunCli, digit: Path, two_layers: Path) -> None:
    options = ("--steps", "9", "--target", "contrast", "--head-fusion", "max")
    told = run_cli("attention-map", digit, "--method", "raw,gradcam", *options, "--model", two_layers)
    assert told.code == 0, told.err
    warned = {line.partition("--")[2] for line in told.err.splitlines() if "no effect" in line}
    assert warned == {
        "steps has no effect on raw, gradcam",
        "target has no effect on raw",
        "head-fusion has no effect on gradcam",
    }
    usual = run_cli("attention-map", digit, "--method", "ig", "--steps", "9", "--model", two_layers)
    assert "no effect" not in usual.err
    score = ("attention-map", digit, "--score", "--steps", "9", "--model", two_layers)
    assert "--steps has no effect on raw" in run_cli(*score, "--method", "raw").err
    assert "no effect" not in run_cli(*score).err


def test_maps_of_another_state_of_the_model_are_not_kept(tmp_path: Path) -> None:
    path, first, second = tmp_path / "maps.npz", np.float32([1, 2]), np.float32([1, 2.1])
    save_arrays(path, {"raw": first, "logits": first})
    assert save_arrays(path, {"ig": first, "logits": first})
    assert save_arrays(path, {"ig": first, "logits": first})
    assert not save_arrays(path, {"ig": second, "logits": first})
    with np.load(path) as arrays:
        assert set(arrays) == {"raw", "ig", "logits"}
    for logits in (second, np.float32([1, 2, 3])):
        assert not save_arrays(path, {"rollout": first, "logits": logits})
        with np.load(path) as arrays:
            assert set(arrays) == {"rollout", "logits"}


def test_maps_of_another_method_replace_nothing(run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path) -> None:
    words = ("attention-map", digit, "--model", two_layers, "-o", tmp_path / "maps", "--method")
    assert "replaced" not in run_cli(*words, "raw").err
    assert "replaced" not in run_cli(*words, "rollout").err
    assert f"replaced {tmp_path / 'maps'}/{digit.stem}.raw.png; another" in run_cli(*words, "raw").err


def test_maps_and_logits_are_kept_as_they_are(explain: Callable[..., Any], digit: Path, tmp_path: Path) -> None:
    (image,) = explain(digit, "--class", "top2", "--arrays", "safetensors")["images"]
    kept = load_file(image["arrays"])
    assert set(kept) == {"logits", *(f"relevance.{each['target']}" for each in image["maps"])}
    assert kept["logits"].shape == (2,)
    for each in image["maps"]:
        np.testing.assert_array_equal(kept[f"relevance.{each['target']}"], np.float32(each["weights"]))
    with np.load(explain(digit, "--class", "top2")["images"][0]["arrays"]) as arrays:
        assert set(arrays) == set(kept)
    Path(image["arrays"]).with_suffix(".npz").write_bytes(b"")  # as a full disk leaves it
    assert explain(digit)["images"][0]["arrays"].endswith(".npz")
    explain(digit, "--arrays", "none", "-o", tmp_path / "bare")
    assert names_in(tmp_path / "bare") == {f"digit.relevance.{image['predicted']}.png", "report.json"}


def test_the_report_says_how_maps_came_about(explain: Callable[..., Any], shapes: Path, tmp_path: Path) -> None:
    printed = explain(shapes / "left" / "000.png", "--layers", "-1", "--head-fusion", "max")
    report = json.loads((tmp_path / "maps" / "report.json").read_text())
    assert report["parameters"]["layers"] == [1]
    assert report["parameters"]["options"]["fusion"] == "max"
    assert report["parameters"]["grid"] == [4, 4]
    (image,) = report["images"]
    assert image["truth"] == "left"
    wrong = ExplainedImage(image="a.png", predicted="right", probability=0.6, truth="left")
    assert facts_of(wrong)["class"] == "right, 60.00 %, truth left", "as in the picture"
    assert image["box"] == [0, 0, 8, 8]
    assert image["maps"][0]["prefix_share"] == printed["images"][0]["maps"][0]["prefix_share"]
    assert image["figures"] == printed["images"][0]["figures"]


PICTURES: dict[str, tuple[Words, set[str]]] = {
    "compare": (("--compare",), {"digit.compare.png"}),
    "heads": (("--heads-grid",), {"digit.heads.png"}),
    "blocks": (("--blocks", "--method", "raw,ig"), {"digit.raw.blocks.png"}),
    "gif": (("--gif", "--method", "rollout"), {"digit.rollout.gif"}),
    "query": (("--query", "1,2"), {"digit.query-1-2.raw.png"}),
    "query of a pixel": (("--query", "5,3px"), {"digit.query-1-2.raw.png"}),
    "query in all ways": (
        ("--query", "1,2", "--compare", "--heads-grid", "--blocks"),
        {
            f"digit.query-1-2.{name}.png"
            for name in ("compare", "heads", "raw.blocks", "classic.blocks", "rollout.blocks")
        },
    ),
    "full": (("--full", "--method", "raw"), {"digit.raw.png"}),
    "look": (
        ("--method", "raw", "--cmap", "viridis", "--alpha", "0.2", "--norm", "minmax", "--interp", "nearest"),
        {"digit.raw.png"},
    ),
}


@pytest.mark.pictures
@pytest.mark.parametrize("picture", PICTURES)
def test_every_kind_of_picture(explain: Callable[..., Any], digit: Path, tmp_path: Path, picture: str) -> None:
    words, expected = PICTURES[picture]
    (image,) = explain(digit, *words)["images"]
    arrays = "digit.query-1-2.npz" if "query" in picture else "digit.npz"
    assert names_in(tmp_path / "maps") == {*expected, arrays, "report.json"}
    assert image["query"] == ([1, 2] if "query" in picture else None)
    assert {Path(path).name for path in image["figures"].values()} == expected
    assert all(is_picture(Path(path)) for path in image["figures"].values())


def test_one_page_of_all_images(explain: Callable[..., Any], shapes: Path, tmp_path: Path) -> None:
    report = explain(shapes / "left", "--html", "--class", "left", "--class", "right")
    assert Path(report["page"]) == tmp_path / "maps" / "attention.html"
    text = Path(report["page"]).read_text(encoding="utf-8")
    assert text.count('class="image"') == len(report["images"]) == 10
    assert not any(name.endswith(".png") for name in names_in(tmp_path / "maps"))


def test_methods_are_compared_with_noise(explain: Callable[..., Any], digit: Path) -> None:
    (image,) = explain(digit, "--compare")["images"]
    assert [each["method"] for each in image["maps"]] == [*EVERY_METHOD, "random"]


@pytest.mark.pictures
def test_a_sheet_of_random_test_images(run_cli: RunCli, trained_run: Path, data_dir: Path, tmp_path: Path) -> None:
    words = ("--model", trained_run, "--data-dir", data_dir, "--method", "classic", "--arrays", "none", "--json")
    report = as_json(run_cli("attention-map", "--grid", "6", *words, "-o", tmp_path / "maps"))
    assert len(report["images"]) == 6
    assert all(image["truth"] in set("0123456789") for image in report["images"])
    assert [Path(path).name for path in report["sheets"]] == ["sheet.classic.png"]
    assert is_picture(Path(report["sheets"][0]))
    assert names_in(tmp_path / "maps") == {"sheet.classic.png", "report.json"}
    again = as_json(run_cli("attention-map", "--grid", "6", *words, "-o", tmp_path / "again"))
    assert [each["image"] for each in again["images"]] == [each["image"] for each in report["images"]]
    other = as_json(run_cli("attention-map", "--grid", "6", "--seed", "1", *words, "-o", tmp_path / "other"))
    assert [each["image"] for each in other["images"]] != [each["image"] for each in report["images"]]


def test_images_of_a_split_are_those_of_eval(run_cli: RunCli, two_layers: Path, data_dir: Path, tmp_path: Path) -> None:
    words = ("--model", two_layers, "--data-dir", data_dir, "--json")
    judged = as_json(run_cli("eval", *words))
    report = as_json(run_cli("attention-map", "--split", "test", *words, "-o", tmp_path / "maps"))
    assert len(report["images"]) == judged["metrics"]["images"]
    right = sum(image["truth"] == image["predicted"] for image in report["images"])
    assert right / len(report["images"]) == pytest.approx(judged["metrics"]["top1"])
    assert len(as_json(run_cli("attention-map", "--limit", "2", "--split", "test", *words))["images"]) == 2


def test_an_unreadable_image_gets_an_error_and_the_others_their_maps(
    run_cli: RunCli, two_layers: Path, shapes: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    good = shapes / "left" / "000.png"
    outcome = run_cli("attention-map", good, bad, "--model", two_layers, "-o", tmp_path / "maps", "--json")
    assert outcome.code == 1
    first, second = json.loads(outcome.out)["images"]
    assert first["maps"]
    assert not first["error"]
    assert str(bad) in second["error"]
    assert not second["maps"]
    assert str(bad) in outcome.err


@pytest.mark.pictures
def test_a_map_of_nothing_is_said_and_drawn_as_such(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(Run(two_layers).best_checkpoint)
    without_head = {name: tensor * (not name.startswith("head.")) for name, tensor in checkpoint.weights.items()}
    save_checkpoint(tmp_path / "no-opinion.safetensors", replace(checkpoint, weights=without_head))
    words = ("--model", tmp_path / "no-opinion.safetensors", "-o", tmp_path / "maps")
    copy = tmp_path / "copy.png"
    copy.write_bytes(digit.read_bytes())
    outcome = run_cli("attention-map", digit, copy, *words)
    assert outcome.code == 0
    assert "relevance for left: all weights are 0, there is nothing to see in" in outcome.err
    assert outcome.err.count("nothing to see") == 1
    assert is_picture(tmp_path / "maps" / "digit.relevance.left.png")


@pytest.mark.parametrize(("amp", "is_told"), [("on", True), ("off", False)])
def test_answers_that_rounding_may_decide_are_told_where_other_commands_round(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path, amp: str, *, is_told: bool
) -> None:
    checkpoint = load_checkpoint(Run(two_layers).best_checkpoint)
    without_head = {name: tensor * (not name.startswith("head.")) for name, tensor in checkpoint.weights.items()}
    provenance = {**checkpoint.provenance, "amp": amp}
    file = tmp_path / "undecided.safetensors"
    save_checkpoint(file, replace(checkpoint, weights=without_head, provenance=provenance))
    said = "two classes are almost equally probable; maps are computed in float32, `vit predict` and `vit eval` in bfl"
    assert (said in run_cli("attention-map", digit, "--model", file, "-o", tmp_path / "maps").err) == is_told


def test_maps_that_are_almost_even_are_told_in_one_line(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(Run(two_layers).best_checkpoint)
    even = {name: tensor * ("query" not in name and "qkv" not in name) for name, tensor in checkpoint.weights.items()}
    save_checkpoint(tmp_path / "even.safetensors", replace(checkpoint, weights=even))
    words = ("--model", tmp_path / "even.safetensors", "--method", "raw,classic", "-o", tmp_path / "maps")
    outcome = run_cli("attention-map", digit, *words)
    assert (
        "raw, classic: all patches weigh almost the same in 2 maps, so their colours begin at the mini" in outcome.err
    )
    hint = "almost the same in 2 maps; --norm minmax shows the differences"
    assert hint in run_cli("attention-map", digit, *words, "--norm", "max").err


def test_many_images_are_summed_up(
    run_cli: RunCli, two_layers: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitcli.workflows.attention_map._MANY", 8)
    outcome = run_cli("attention-map", shapes, "--model", two_layers, "-o", tmp_path / "maps", "--limit", "9")
    assert outcome.code == 0
    assert "--limit 24" not in outcome.err
    assert len(list((tmp_path / "maps").glob("*.png"))) == 9
    assert "of 9 whose class is known" in outcome.out
    assert "9 in" in outcome.out
    outcome = run_cli(
        "attention-map", shapes / "left", "--model", two_layers, "-o", tmp_path / "all", "--arrays", "none"
    )
    assert "images are explained; --limit 24 takes 24 of them at random" in outcome.err


@pytest.mark.pictures
def test_photos_that_are_not_square_get_maps_of_their_patch_grid(
    run_cli: RunCli, tiny: Words, image_folder: Callable[..., Path], data_dir: Path, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "photos", {"left": 10, "right": 10}, size=(20, 50))
    words = ("--image-size", "8x16", "--name", "wide", "--output-dir", tmp_path, "--data-dir", data_dir)
    assert run_cli("train", folder, *tiny, *words).code == 0
    image = min(path for path in folder.rglob("*") if path.is_file())
    out = ("--model", tmp_path / "wide", "--output", tmp_path / "maps", "--full")
    (drawn,) = as_json(run_cli("attention-map", image, *out, "--json"))["images"]
    checkpoint = load_checkpoint(Run(tmp_path / "wide").best_checkpoint)
    assert np.shape(drawn["maps"][0]["weights"]) == checkpoint.model.grid
    assert checkpoint.model.grid[0] != checkpoint.model.grid[1]
    assert drawn["box"] == [0, 0, 50, 20]
    assert all(is_picture(Path(path)) for path in drawn["figures"].values())


def test_methods_are_put_to_the_test_beside_noise(
    run_cli: RunCli, two_layers: Path, shapes: Path, data_dir: Path, tmp_path: Path
) -> None:
    words = ("--model", two_layers, "--data-dir", data_dir, "-o", tmp_path / "trust", "--method", "raw,relevance")
    outcome = run_cli("attention-map", shapes, "--score", "--check", *words)
    assert outcome.code == 0
    kept = {name: json.loads((tmp_path / "trust" / f"{name}.json").read_text()) for name in ("scores", "checks")}
    assert sorted(row["method"] for row in kept["scores"]["rows"]) == ["random", "raw", "relevance"]
    assert kept["scores"]["rows"][-1]["method"] == "random"
    assert kept["scores"]["verdict"] in outcome.out
    headings = re.findall(
        r"(\S+) [↓↑]", outcome.out.partition("the colour that is 0")[0].split("method")[2].splitlines()[0]
    )
    assert headings == ["del", "del-blur", "ins", "ins-blur", "pos", "neg"]
    explained = re.findall(r"^([a-z, -]+): ", outcome.out, re.MULTILINE)
    assert {*headings, "gain over noise", "sink"} <= {name for names in explained for name in names.split(", ")}
    assert len(kept["scores"]["names"]) == len(kept["scores"]["per_image"]) == kept["checks"]["images"] == 20
    verdicts = {row["method"]: row["verdict"] for row in kept["checks"]["rows"]}
    assert set(verdicts) == {"raw", "relevance"}
    shown = outcome.out.partition("head replaced")[2]
    assert verdicts["raw"] == "ignores the class by construction"
    assert "ignores class" in shown
    assert all(f"\n{meaning}: " in shown for meaning in ("all replaced", "chance", "other class"))
    assert "correlates by" not in shown, "the numbers are in the table"
    assert {"scores.json", "checks.json"} == names_in(tmp_path / "trust")
    for name in ("scores", "checks"):
        assert f"all values: {tmp_path / 'trust' / name}.json" in outcome.err
    again = run_cli("attention-map", "--score", "--limit", "3", "--split", "train", *words, "--json")
    result = as_json(again)
    assert result["stored"] == [str(tmp_path / "trust" / "scores-2.json")]
    assert json.loads((tmp_path / "trust" / "scores.json").read_text()) == kept["scores"], "nothing is replaced"
    assert result["scores"]["images"] == 3
    assert "too few" in result["scores"]["verdict"]
    assert result["checks"] is None


def test_scores_go_with_the_names_of_the_images_that_could_be_read(
    run_cli: RunCli, two_layers: Path, shapes: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    words = ("--model", two_layers, "-o", tmp_path / "trust", "--method", "raw", "--json")
    good = shapes / "left" / "000.png", shapes / "left" / "001.png"
    outcome = run_cli("attention-map", good[0], bad, good[1], "--score", *words)
    assert str(bad) in outcome.err
    kept = json.loads((tmp_path / "trust" / "scores.json").read_text())
    assert kept["names"] == [str(path) for path in good]
    assert kept["images"] == 2


@pytest.mark.parametrize("words", [("--class", "top2"), ("--query", "1,1", "--method", "raw")])
def test_what_cannot_be_scored_is_refused(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path, words: Words
) -> None:
    outcome = run_cli("attention-map", digit, "--score", "--model", two_layers, "-o", tmp_path / "trust", *words)
    assert outcome.code == 2
    assert "hint" in outcome.err
    assert names_in(tmp_path / "trust") == set()


@pytest.mark.pictures
def test_classes_of_like_names_have_files_of_their_own(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(Run(two_layers).best_checkpoint)
    save_checkpoint(tmp_path / "c.safetensors", replace(checkpoint, classes=("C++", "C--")))
    words = (
        "--model",
        tmp_path / "c.safetensors",
        "--class",
        "C++",
        "--class",
        "C--",
        "-o",
        tmp_path / "maps",
        "--json",
    )
    (image,) = as_json(run_cli("attention-map", digit, *words))["images"]
    assert len({*image["figures"].values()}) == 2
    assert all(is_picture(Path(path)) for path in image["figures"].values())
    with np.load(image["arrays"]) as arrays:
        assert len(arrays) == 3


def test_classes_as_parts_of_names_are_short_and_apart() -> None:
    names = ["cat", "Cat", "+", "", "a" * 300, "a" * 299 + "b", "\u732b" * 90, "dog"]
    slugs = class_slugs(names)
    assert len(set(slugs)) == len(names)
    assert slugs[-1] == "dog"
    assert all(len(slug.encode()) < 80 and "/" not in slug for slug in slugs)


@pytest.mark.parametrize(
    "words",
    [
        ("--grid", "4", "--compare"),
        ("--grid", "4", "--limit", "2"),
        ("--full", "--gif", "{digit}"),
        ("--score", "--html"),
        ("--check", "--grid", "3"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    run_cli: RunCli, two_layers: Path, digit: Path, words: Words
) -> None:
    assert run_cli("attention-map", *(word.format(digit=digit) for word in words), "--model", two_layers).code == 2


def test_single_layers_are_drawn_by_methods_that_look_at_them(
    run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path
) -> None:
    words = (digit, "--model", two_layers, "-o", tmp_path / "maps", "--blocks")
    refused = run_cli("attention-map", *words, "--method", "ig,gradcam")
    assert refused.code == 2
    assert "one layer alone" in refused.err
    assert "no pictures of single layers for ig" in run_cli("attention-map", *words, "--method", "ig,raw").err


def test_a_long_name_of_an_image_is_cut(run_cli: RunCli, two_layers: Path, digit: Path, tmp_path: Path) -> None:
    long = tmp_path / ("n" * 249 + ".png")
    long.write_bytes(digit.read_bytes())
    assert run_cli("attention-map", long, "--model", two_layers, "-o", tmp_path / "maps").code == 0


def test_scores_need_a_folder_before_anything_is_computed(run_cli: RunCli, two_layers: Path, digit: Path) -> None:
    outcome = run_cli("attention-map", digit, "--score", "--model", two_layers, "-o", digit)
    assert outcome.code == 2
    assert "give a folder" in outcome.err


def test_nothing_of_an_earlier_command_is_overwritten(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    for at, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8), 40 + 90 * at).save(tmp_path / name / "001.png")
    words = ("--model", trained_run, "--class", "3", "-o", tmp_path / "maps")

    def explained(image: str, *more: str) -> dict[str, bytes]:
        before = {path.name: path.read_bytes() for path in (tmp_path / "maps").glob("*.png")}
        outcome = run_cli("attention-map", tmp_path / image, *words, *more)
        assert outcome.code == 0, outcome.err
        after = {path.name: path.read_bytes() for path in (tmp_path / "maps").glob("*.png")}
        assert before.items() <= after.items()
        return after

    explained("cat/001.png", "--method", "raw")
    explained("dog/001.png", "--method", "raw")
    explained("cat/001.png", "--method", "rollout")
    files = explained("dog/001.png", "--method", "raw")  # the same picture once more
    assert sorted(files) == ["001-2.raw.png", "001.raw.png", "001.rollout.png"]
    reports = [f"report{end}.json" for end in ("", "-2", "-3", "-4")]
    assert names_in(tmp_path / "maps") == {*files, *reports, "001.npz", "001-2.npz"}
    with np.load(tmp_path / "maps" / "001.npz") as arrays:
        assert {"raw", "rollout", "logits"} <= {name.partition(".")[0] for name in arrays.files}
    sources = [json.loads((tmp_path / "maps" / name).read_text())["images"][0]["source"] for name in reports]
    assert [Path(source).parent.name for source in sources] == ["cat", "dog", "cat", "dog"]


@pytest.mark.pictures
def test_files_that_no_report_knows_are_not_overwritten(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 40).save(tmp_path / "a.png")
    (tmp_path / "maps").mkdir()
    for name in ("a.npz", "a-2.raw.png", "a-3.query-0-1.raw.png", "attention.html"):
        (tmp_path / "maps" / name).write_text("mine")
    for option in ((), ("--html",)):
        outcome = run_cli("attention-map", tmp_path / "a.png", "--model", trained_run, "-o", tmp_path / "maps", *option)
        assert outcome.code == 0, outcome.err
    assert {"a-4.npz", "attention-2.html"} <= names_in(tmp_path / "maps")
    mine = {path.name for path in (tmp_path / "maps").iterdir() if path.read_bytes() == b"mine"}
    assert mine == {"a.npz", "a-2.raw.png", "a-3.query-0-1.raw.png", "attention.html"}


def test_the_picture_may_not_replace_the_image(run_cli: RunCli, trained_run: Path, digit: Path) -> None:
    before = digit.read_bytes()
    outcome = run_cli("attention-map", digit, "--model", trained_run, "-o", digit.parent / "." / digit.name)
    assert outcome.code == 2
    assert f"{digit} is an image to explain, and would be replaced" in outcome.err
    assert digit.read_bytes() == before


@pytest.mark.parametrize("name", ["maps", "map.png"])
def test_a_place_that_cannot_be_written_is_refused_first(
    run_cli: RunCli, trained_run: Path, digit: Path, name: str
) -> None:
    (digit.parent / "broken.png").touch()  # reading it would be another error
    broken = digit.parent / "broken.png"
    outcome = run_cli("attention-map", broken, "--model", trained_run, "-o", digit / name)
    assert outcome.code == 1
    assert f"{digit / name} cannot be written: {digit} is a file, not a folder" in outcome.err


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_a_picture_may_replace_one_of_vit_and_no_other(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path, ending: str
) -> None:
    words = ("--model", trained_run, "-o", tmp_path / f"other{ending}")
    words[-1].write_bytes(digit.read_bytes())
    outcome = run_cli("attention-map", digit, *words)
    assert outcome.code == 1
    assert "has no mark of a picture that vit drew, and would be replaced" in outcome.err
    assert words[-1].read_bytes() == digit.read_bytes()
    words[-1].unlink()
    for _ in range(2):
        assert run_cli("attention-map", digit, *words).code == 0


@pytest.fixture
def single(trained_run: Path, tmp_path: Path) -> Path:
    """Weights with a single output."""
    checkpoint = load_checkpoint(Run(trained_run).best_checkpoint)
    weights = {name: each[:1] if name.startswith("head.") else each for name, each in checkpoint.weights.items()}
    model = replace(checkpoint.model, num_classes=1)
    save_checkpoint(tmp_path / "single.safetensors", replace(checkpoint, model=model, weights=weights, classes=("0",)))
    return tmp_path / "single.safetensors"


def test_a_single_class_has_maps_but_no_probability(run_cli: RunCli, single: Path, digit: Path, tmp_path: Path) -> None:
    words = ("attention-map", digit, "--model", single, "-o", tmp_path / "maps")
    (image,) = as_json(run_cli(*words, "--json"))["images"]
    assert (image["predicted"], image["probability"]) == ("0", None)
    assert np.shape(image["maps"][0]["weights"]) == (4, 4)
    assert "100" not in run_cli(*words).out.partition("class")[2].partition("\n")[0]
    judged = run_cli(*words, "--score")
    answered = run_cli("predict", digit, "--model", single)
    for refused in (judged, answered):
        assert refused.code == 1
        assert "a single output, and the probability of a single class is always 1" in refused.err


def test_another_model_has_names_of_its_own(run_cli: RunCli, trained_run: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "other")
    Image.new("L", (8, 8), 40).save(tmp_path / "a.png")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "report.json").write_text('{"of": "another tool"}')
    for model in (trained_run, tmp_path / "other"):
        assert run_cli("attention-map", tmp_path / "a.png", "--model", model, "-o", tmp_path / "maps").code == 0
    assert {"a.npz", "a-2.npz", "report-2.json", "report-3.json"} <= names_in(tmp_path / "maps")
    assert json.loads((tmp_path / "maps" / "report.json").read_text()) == {"of": "another tool"}


def test_images_of_classes_that_the_model_does_not_know_are_explained(
    run_cli: RunCli, trained_run: Path, shapes: Path, tmp_path: Path
) -> None:
    words = ("--model", trained_run, "--dataset", shapes, "--limit", "2", "-o", tmp_path / "maps", "--json")
    outcome = run_cli("attention-map", *words)
    assert [image["truth"] for image in as_json(outcome)["images"]] == [None, None]
    said = "the model does not know 2 of the 2 classes, for example 'left': their images have no true class here"
    assert said in " ".join(outcome.err.split())


def test_a_true_class_that_is_the_name_of_a_folder_is_said(
    run_cli: RunCli, trained_run: Path, digit: Path, tmp_path: Path
) -> None:
    (tmp_path / "3").mkdir()
    image = shutil.copy(digit, tmp_path / "3" / "one.png")
    outcome = run_cli("attention-map", image, "--model", trained_run, "-o", tmp_path / "maps", "--json")
    assert as_json(outcome)["images"][0]["truth"] == "3"
    note = "the true class of an image is the name of its folder"
    assert note in outcome.err
    assert note not in run_cli("attention-map", digit, "--model", trained_run, "-o", tmp_path / "maps").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--score", "--alpha", "0.1", "--arrays", "none"), "draw nothing: leave out --alpha, --arrays"),
        (("--check", "--dpi", "300"), "draw nothing: leave out --dpi"),
        (("--compare", "--min-size", "100"), "--min-size does not change the pictures of --compare"),
        (("--blocks", "--min-size", "100"), "--min-size does not change the pictures of --blocks"),
    ],
)
def test_options_that_change_no_picture_are_refused(run_cli: RunCli, digit: Path, words: Words, said: str) -> None:
    outcome = run_cli("attention-map", digit, *words)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.replace("│", " ").split())
