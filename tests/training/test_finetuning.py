"""Weights from elsewhere, through ``vit``: fine-tuned, judged, used and explained."""

import json
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from tests.conftest import Outcome
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint

RunCli = Callable[..., Outcome]
SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1}
EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
QUICK = ("--epochs", "2", "--batch-size", "4", "--val-fraction", "0.25", "--image-size", "32", "--seed", "1")


@pytest.fixture(scope="module")
def photos(image_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of colour images larger than the model's input."""
    counts = {f"{split}/{name}": 8 if split == "train" else 2 for split in ("train", "test") for name in "abc"}
    return image_folder(tmp_path_factory.mktemp("photos"), counts, size=(80, 72), mode="RGB")


@pytest.fixture(scope="module")
def deit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in DeiT's own format and under its name."""
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", **SIZE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    path = tmp_path_factory.mktemp("weights") / "deit_tiny_patch16_224-a1311bcf.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def of_run(tmp_path: Path, name: str, which: str = "last") -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(Run(tmp_path / "experiments" / name).checkpoint(which)).weights)


def test_deits_own_file_is_fine_tuned_judged_used_and_explained(
    run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path
) -> None:
    outcome = run_cli("train", photos, *QUICK, "--init-from", deit, "--name", "tuned")
    assert outcome.code == 0, outcome.err
    assert "in the format of timm" in outcome.err
    assert "recipe: finetune, with the images of photos" in outcome.err
    assert "new         head" in outcome.err
    assert "left over   head (of 1,000 classes)" in outcome.err
    config = Run(tmp_path / "experiments" / "tuned").config
    assert config["resolved_model"]["width"] == 64
    assert config["resolved_model"]["num_classes"] == 3
    checkpoint = load_checkpoint(Run(tmp_path / "experiments" / "tuned").best_checkpoint)
    assert checkpoint.preprocessing.mean == (0.485, 0.456, 0.406)
    assert checkpoint.classes == ("a", "b", "c")
    image = next((photos / "test" / "a").iterdir())
    for words in (("eval",), ("predict", image), ("attention-map", image)):
        outcome = run_cli(*words)
        assert outcome.code == 0, outcome.err


def test_weights_of_another_size_are_resized(run_cli: RunCli, photos: Path, deit: Path) -> None:
    outcome = run_cli("train", photos, *QUICK, "--image-size", "48x32", "--init-from", deit)
    assert outcome.code == 0, outcome.err
    assert "adapted     positions (4 to 6x4 patches)" in outcome.err


def test_a_frozen_backbone_sees_each_image_once_and_stays_as_it_was(
    run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path
) -> None:
    words = ("--freeze-backbone", "--head", "mlp:8", "--head-dropout", "0.3", "--init-from", deit, "--name", "probe")
    outcome = run_cli("train", photos, *QUICK, *words)
    assert outcome.code == 0, outcome.err
    assert "sees each only once" in outcome.err
    kept = load_file(tmp_path / "experiments" / "probe" / "cache" / "features.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in kept.items()} == {
        "train.0": (18, 64),
        "train.0.labels": (18,),
        "val": (6, 64),
        "val.labels": (6,),
    }
    weights = of_run(tmp_path, "probe")
    source = torch.load(deit, weights_only=True)["model"]
    assert weights["blocks.1.attention.qkv.weight"].equal(source["blocks.1.attn.qkv.weight"])
    assert weights["norm.bias"].equal(source["norm.bias"])
    assert {name: tuple(value.shape) for name, value in weights.items() if name.startswith("head.")} == {
        "head.0.weight": (8, 64),
        "head.0.bias": (8,),
        "head.3.weight": (3, 8),
        "head.3.bias": (3,),
    }
    image = next((photos / "test" / "a").iterdir())
    assert run_cli("predict", image).code == 0


def test_features_lead_where_images_do(run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path) -> None:
    """A shift by nothing is a change of images to the configuration, and none to the images."""
    words = ("--freeze-backbone", "--init-from", deit)
    assert run_cli("train", photos, *QUICK, *words, "--name", "fast").code == 0
    slow = ("--set", "augment.shift=1e-12", "--name", "slow")
    assert run_cli("train", photos, *QUICK, *words, *slow).code == 0
    assert not (tmp_path / "experiments" / "slow" / "cache").exists()
    fast_epochs, slow_epochs = (
        json.loads((tmp_path / "experiments" / name / "metrics.json").read_text())["epochs"]
        for name in ("fast", "slow")
    )
    for key in ("train_loss", "val_loss", "val_accuracy"):
        assert [epoch[key] for epoch in fast_epochs] == pytest.approx([epoch[key] for epoch in slow_epochs], rel=1e-3)


def test_several_views_of_each_image(run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path) -> None:
    words = ("--freeze-backbone", "--feature-views", "2", "--init-from", deit, "--name", "views")
    outcome = run_cli("train", photos, *QUICK, *words)
    assert outcome.code == 0, outcome.err
    assert "with the images of photos" in outcome.err
    kept = load_file(tmp_path / "experiments" / "views" / "cache" / "features.safetensors")
    assert kept["train.0"].shape == kept["train.1"].shape == (18, 64)
    assert not kept["train.0"].equal(kept["train.1"])


def test_views_of_neighbouring_seeds_have_nothing_in_common(
    run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "split"
    for split in ("train", "val"):  # the same images with every seed
        shutil.copytree(photos, folder / split)
    kept = {}
    for seed in ("0", "1"):
        words = ("--freeze-backbone", "--feature-views", "2", "--init-from", deit, "--name", seed, "--seed", seed)
        outcome = run_cli("train", folder, *QUICK, *words)
        assert outcome.code == 0, outcome.err
        kept[seed] = load_file(tmp_path / "experiments" / seed / "cache" / "features.safetensors")
    views = [kept[seed][f"train.{view}"] for seed in kept for view in (0, 1)]
    assert not any(one.equal(other) for one, other in combinations(views, 2))


@pytest.mark.parametrize("words", [(), ("--freeze-backbone", "--mixup", "0.2")])
def test_views_are_refused_where_images_change(run_cli: RunCli, photos: Path, deit: Path, words: tuple[str]) -> None:
    outcome = run_cli("train", photos, *QUICK, "--feature-views", "2", *words, "--init-from", deit)
    assert outcome.code == 2
    assert "needs features that stay the same" in outcome.err


def test_low_rank_changes_end_in_plain_weights(run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path) -> None:
    outcome = run_cli("train", photos, *QUICK, "--lora", "2", "--init-from", deit, "--name", "lora")
    assert outcome.code == 0, outcome.err
    weights = of_run(tmp_path, "lora")
    source = torch.load(deit, weights_only=True)["model"]
    change = weights["blocks.0.mlp.fc1.weight"] - source["blocks.0.mlp.fc1.weight"]
    assert 1 <= torch.linalg.matrix_rank(change, rtol=1e-3) <= 2
    assert weights["blocks.0.attention_norm.weight"].equal(source["blocks.0.norm1.weight"])
    assert run_cli("eval").code == 0


def test_the_last_block_alone(run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path) -> None:
    words = ("--train-only", "last:1", "--head-lr", "0.01", "--init-from", deit, "--name", "last")
    assert run_cli("train", photos, *QUICK, *words).code == 0
    weights, source = of_run(tmp_path, "last"), torch.load(deit, weights_only=True)["model"]
    assert weights["blocks.0.mlp.fc1.weight"].equal(source["blocks.0.mlp.fc1.weight"])
    assert not weights["blocks.1.mlp.fc1.weight"].equal(source["blocks.1.mlp.fc1.weight"])


@pytest.mark.pictures
def test_a_model_from_elsewhere_is_used_without_training(
    run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path
) -> None:
    image = next((photos / "test" / "a").iterdir())
    outcome = run_cli("predict", image, "--model", deit, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["rows"][0]["error"] == ""
    assert run_cli("attention-map", image, "--model", deit, "--output", tmp_path / "map.png").code == 0
    assert (tmp_path / "map.png").stat().st_size > 1000
    outcome = run_cli("eval", "--model", deit)
    assert outcome.code == 1
    assert "its data set is not known" in outcome.err
    assert "vit eval DATASET --model" in outcome.err


def test_a_model_without_a_head_is_explained_but_not_asked_for_classes(
    run_cli: RunCli, photos: Path, tmp_path: Path
) -> None:
    weights = timm.create_model("vit_small_patch14_dinov2", **SIZE, num_classes=0).state_dict()
    torch.save(weights, tmp_path / "dinov2.pth")
    image = next((photos / "test" / "a").iterdir())
    assert run_cli("attention-map", image, "--model", "dinov2.pth", "--output", "map.png").code == 0
    outcome = run_cli("predict", image, "--model", "dinov2.pth")
    assert outcome.code == 1
    assert "has no classifier" in outcome.err
    assert "--init-from dinov2.pth" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--pretrained", "--offline"), "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k is not on this machine"),
        (("--pretrained", "--model", "vit-nano-patch4"), "no pretrained weights for vit-nano-patch4"),
        (("--pretrained", "--init-from", "deit-tiny"), "both say where to start"),
        (("--init-from", "deit-tine"), "did you mean 'deit-tiny'?"),
        (("--init-from", "hf:timm"), "expected: hf:OWNER/NAME"),
        (("--init-from", "weights.pth"), "no such file: weights.pth"),
        (("--train-only", "heads"), "did you mean 'head'?"),
        (("--lora", "2", "--train-only", "norm"), "--train-only and --lora each say what is trained"),
        (("--head", "mlp"), "--head 'mlp' is not a head"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    run_cli: RunCli, photos: Path, tmp_path: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    outcome = run_cli("train", photos, *QUICK, *words)
    assert outcome.code in {1, 2}
    assert said in outcome.err
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize("recipe", ["butterflies-classic", "butterflies", "cassava"])
def test_recipes_that_fine_tune_run_on_photos_in_folders(
    run_cli: RunCli, photos: Path, deit: Path, tmp_path: Path, recipe: str
) -> None:
    outcome = run_cli("train", photos, *QUICK, "--recipe", recipe, "--init-from", deit, "--name", "run")
    assert outcome.code == 0, outcome.err
    config = Run(tmp_path / "experiments" / "run").config
    assert config["resolved_model"]["width"] == 64
    assert config["resolved_model"]["head_width"] == (512 if recipe == "butterflies-classic" else 0)
    assert run_cli("eval").code == 0


@pytest.mark.parametrize("recipe", ["butterflies-classic", "butterflies", "cassava"])
def test_recipes_that_fine_tune_name_their_weights(
    run_cli: RunCli, photos: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "data"))
    outcome = run_cli("train", photos, "--recipe", recipe, "--offline")
    assert outcome.code == 1
    assert "is not on this machine" in outcome.err


def test_the_cassava_tutorials_recipe_runs_on_photos_in_folders(run_cli: RunCli, photos: Path) -> None:
    small = ("model.width=32", "model.depth=1", "model.mlp_width=32")
    words = [word for setting in small for word in ("--set", setting)]
    outcome = run_cli("train", photos, *QUICK, "--recipe", "cassava-classic", *words)
    assert outcome.code == 0, outcome.err


def test_a_folder_of_checkpoints_is_read_like_any_folder_of_weights(run_cli: RunCli, trained_run: Path) -> None:
    outcome = run_cli("predict", "--model", trained_run / "checkpoints", EXAMPLES, "--json")
    assert outcome.code == 0, outcome.err


def test_a_random_backbone_is_not_frozen_in_silence(run_cli: RunCli, photos: Path) -> None:
    outcome = run_cli("train", photos, *QUICK, "--model", "vit-nano-patch4", "--freeze-backbone")
    assert outcome.code == 0, outcome.err
    assert "keeps random weights" in outcome.err
    assert "optimizer: adamw" in outcome.err


def test_a_recipe_that_freezes_means_the_same_with_the_flag(run_cli: RunCli, photos: Path, deit: Path) -> None:
    words = ("--recipe", "butterflies-classic", "--init-from", deit, "--image-size", "32", "--epochs", "1")
    assert run_cli("train", photos, *words, "--name", "without").code == 0
    assert run_cli("train", photos, *words, "--name", "with", "--freeze-backbone").code == 0
    with_flag, without = (Run(Path("experiments") / name).config["optim"] for name in ("with", "without"))
    assert with_flag == without
    assert with_flag["optimizer"] == "adam"


def test_views_that_are_all_the_same_are_refused(run_cli: RunCli, photos: Path, deit: Path) -> None:
    words = ("--recipe", "probe", "--init-from", deit, "--feature-views", "3")
    outcome = run_cli("train", photos, *QUICK, *words)
    assert outcome.code == 2
    assert "every view would be the same" in outcome.err
    assert not Path("experiments").exists()


def test_another_head_on_the_same_classes_is_new(run_cli: RunCli, photos: Path, deit: Path) -> None:
    assert run_cli("train", photos, *QUICK, "--init-from", deit, "--head", "mlp:16", "--name", "base").code == 0
    outcome = run_cli("train", photos, *QUICK, "--init-from", "base", "--head", "mlp:8")
    assert outcome.code == 0, outcome.err
    assert "new         head" in outcome.err


def test_weights_made_with_other_heads_are_warned_about(run_cli: RunCli, photos: Path, deit: Path) -> None:
    outcome = run_cli("train", photos, *QUICK, "--init-from", deit, "--set", "model.num_heads=4")
    assert outcome.code == 0, outcome.err
    assert "num_heads = 1, not 4" in outcome.err
    words = ("--set", "model.pooling=patches", "--set", "model.final_norm=pooled", "--set", "model.layer_scale=0.1")
    outcome = run_cli("train", photos, *QUICK, "--init-from", deit, *words)
    assert outcome.code == 0, outcome.err
    told = "pooling = class, not patches; final_norm = tokens, not pooled; layer_scale = 0.0, not 0.1"
    assert told in " ".join(outcome.err.split()), outcome.err
