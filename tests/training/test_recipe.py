"""The recipe and the epochs that are chosen where none are given."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import naming
from vitcli.core.config_files import configure, load_recipe
from vitcli.core.events import Event, Note
from vitcli.core.optim_config import OptimConfig
from vitcli.data.dataset import Dataset, Facts
from vitcli.models.registry import MODELS
from vitcli.training.recipe import (
    choose_recipe,
    fitting_patches,
    usual_recipe,
    with_enough_epochs,
    with_enough_validation,
)


def facts(**changes: Any) -> Facts:
    """Return the facts about 1,000 training and 250 test photos of 640 x 480 pixels, with changes."""
    usual: dict[str, Any] = {
        "name": "album",
        "classes": ("cat", "dog"),
        "channels": 3,
        "native_size": None,
        "aspect": 4 / 3,
        "short_side": 480,
        "counts": {"train": 1000, "test": 250},
        "fingerprint": "",
    }
    return Facts(**(usual | changes))


def dataset(recipe: str = "", **changes: Any) -> Dataset:
    return Dataset(facts(**changes), recipe, Path("nowhere"))


def test_the_recipe_suits_the_images_and_the_device() -> None:
    for changes, device, recipe, why in [
        ({}, "cuda", "photos", "because training runs on a GPU"),
        ({}, "mps", "photos", "because training runs on a GPU"),
        ({}, "cpu", "small-photos", "because training runs on a CPU"),
        ({"short_side": 100}, "cuda", "small-photos", "because the photos are small (short side: 100 pixels"),
        ({"short_side": 100}, "cpu", "small-photos", "because the photos are small (short side: 100 pixels"),
        ({"short_side": 128}, "cuda", "photos", "because training runs on a GPU"),
        ({"native_size": (32, 48), "short_side": 32}, "cuda", "small-images", "because all images have 32 x 48 pixels"),
    ]:
        chosen, reason = usual_recipe(dataset(**changes), device=device)
        assert (chosen, why in reason) == (recipe, True), (changes, device)


def test_a_data_sets_own_recipe_counts_on_any_device() -> None:
    for device in ("cpu", "cuda"):
        assert usual_recipe(dataset("mnist", native_size=(28, 28)), device=device)[0] == "mnist"


def test_a_given_recipe_counts_and_weights_are_fine_tuned() -> None:
    for settings, starts, recipe, said in [
        ({"run": {"recipe": "photos"}}, False, "photos", []),
        ({}, False, "small-photos", ["recipe: small-photos, because training runs on a CPU"]),
        ({}, True, "finetune", ["recipe: finetune, with the images of photos"]),  # as large as the weights expect
        ({"optim": {"lora": 4}}, True, "lora", ["recipe: lora, with the images of photos"]),
        ({"optim": {"train_only": "head"}}, True, "probe", ["recipe: probe; images are not augmented"]),
    ]:
        with naming(settings, starts):
            told: list[Event] = []
            name, layers = choose_recipe([settings], dataset(), starts=starts, device="cpu", emit=told.append)
            assert name == recipe
            assert layers[-1] == load_recipe(recipe)
            for event, text in zip(told, said, strict=True):
                assert isinstance(event, Note)
                assert event.text.startswith(text)


def test_grey_images_are_not_mirrored_unless_that_is_asked_for() -> None:
    for recipe, changes, settings, starts, flip in [
        ("", {"channels": 1}, {}, False, 0.0),
        ("", {"channels": 1, "native_size": (28, 28)}, {}, False, 0.0),
        ("", {"channels": 1}, {}, True, 0.0),
        ("", {"channels": 1}, {"augment": {"flip": 0.3}}, False, 0.3),
        ("", {"channels": 3}, {}, False, 0.5),
        ("small-images", {"channels": 1, "native_size": (28, 28)}, {}, False, 0.5),  # the data set has it
    ]:
        notes: list[Any] = []
        data = dataset(recipe, **changes)
        _, base = choose_recipe([settings], data, starts=starts, device="cpu", emit=notes.append)
        assert configure(*base, settings).augment.flip == flip, (changes, settings)
        assert any("not mirrored" in note.text for note in notes) == (flip == 0), (changes, settings)


def test_every_model_is_named_with_the_size_of_its_images() -> None:
    for name, settings in MODELS.items():
        with naming(name):
            told: list[Event] = []
            layers = [{"model": {"name": name}}]
            choose_recipe(layers, dataset(native_size=(16, 24)), starts=False, device="cpu", emit=told.append)
            size = settings.get("image_size", (16, 24))
            (note,) = told
            assert isinstance(note, Note)
            assert note.text.endswith("; {} at {} x {} pixels".format(name, *size))


def test_the_model_of_a_recipe_is_named() -> None:
    for recipe, model, said in [
        ("digits", {}, "; vit-nano-patch2 (width 64, depth 2, mlp_width 128) at 8 x 8 pixels"),
        ("", {}, "; vit-mini-patch6 at 48 x 48 pixels"),
        ("", {"image_size": (40, 40)}, "; vit-mini-patch5 at 40 x 40 pixels"),
        ("", {"depth": 1}, "; vit-mini-patch6 (depth 1) at 48 x 48 pixels"),
        ("", {"name": "vit-nano-patch4"}, "; vit-nano-patch4 at 64 x 64 pixels"),
        ("butterflies", {}, "; the weights of deit-small"),
        ("butterflies", {"name": "vit-nano-patch4"}, "; vit-nano-patch4 at 64 x 64 pixels"),
    ]:
        with naming(recipe, model):
            told: list[Event] = []
            size = {"native_size": (8, 8)} if recipe == "digits" else {}
            choose_recipe([{"model": model}], dataset(recipe, **size), starts=False, device="cpu", emit=told.append)
            assert isinstance(told[-1], Note)
            assert told[-1].text.endswith(said)


def test_few_images_are_seen_in_more_epochs() -> None:
    for shown, images, epochs in [
        (0, 1000, 20),
        (90_000, 900, 100),
        (90_000, 800, 113),
        (90_000, 10_000_000, 20),
        (90_000, 3, 300),
    ]:
        assert OptimConfig(epochs=20, min_images=shown).epochs_for(images) == epochs, (shown, images)


def test_a_tenth_validates_where_the_recipes_share_would_be_few_images() -> None:
    base, few, many = [load_recipe("small-images")], {"train": 400}, {"train": 5000}
    for counts, data, expected in (
        (few, {}, 0.1),
        (many, {}, 0.03),
        (few, {"val_fraction": 0.02}, 0.02),
        (few, {"folds": 5}, 0.03),
        (few | {"val": 50}, {}, 0.03),
        ({"train": 3500}, {}, 0.1),  # 350 of them are for testing
    ):
        with naming(counts, data):
            told: list[Event] = []
            layers = with_enough_validation(base, [{"data": data}], dataset(counts=counts), told.append)
            assert configure(*layers, {"data": data}).data.val_fraction == expected
            said = ["validation: 10 % of the training images, not 3 %"] if expected == 0.1 else []
            assert [event.text.partition(", because")[0] for event in told if isinstance(event, Note)] == said


def test_given_epochs_stay_and_what_the_recipe_takes_is_said() -> None:
    told: list[Event] = []
    base, images = [load_recipe("small-photos")], dataset(counts={"train": 1500, "val": 10, "test": 10})
    for epochs, said in ((2, ["epochs: 2; the recipe takes 100 for 1,500 images"]), (100, [])):
        assert with_enough_epochs(base, [{"optim": {"epochs": epochs}}], images, told.append) == base
        assert [event.text for event in told if isinstance(event, Note)] == said
        told.clear()


def test_patches_fit_an_image_size_that_is_given() -> None:
    base = [load_recipe("small-photos")]
    for given, patch, said in [
        ({"image_size": (64, 64)}, (8, 8), ["patches: 8 pixels, because 6 does not divide --image-size 64"]),
        ({"image_size": (224, 224)}, (28, 28), ["patches: 28 pixels, because 6 does not divide --image-size 224"]),
        ({"image_size": (32, 48)}, (4, 4), ["patches: 4 pixels, because 6 does not divide --image-size 32x48"]),
        ({"image_size": (96, 96)}, None, []),
        ({"image_size": (64, 64), "patch_size": (16, 16)}, None, []),
        ({"image_size": (64, 64), "name": "vit-tiny-patch16"}, None, []),
        ({}, None, []),
    ]:
        with naming(given):
            told: list[Event] = []
            layers = fitting_patches(base, [{"model": given}], told.append)
            assert layers[0] is base[0]
            assert [event.text for event in told if isinstance(event, Note)] == said
            assert configure(*layers[1:]).model.changes.get("patch_size") == patch
            if patch:
                spread = configure(*layers).model.changes["patch_init_std"]
                assert spread == pytest.approx((3 * patch[0] * patch[1]) ** -0.5)
