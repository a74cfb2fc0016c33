"""Lists of models, data sets and recipes; none needs torch, and each imports only what it needs itself."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from vitcli.core.preprocessing import Size
from vitcli.data.registry import DATASETS, find_dataset
from vitcli.data.store import data_dir, is_present, unlisted, weights_dir
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.registry import MODELS, listed_config

if TYPE_CHECKING:
    from vitcli.core.config_files import Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRow:
    """One architecture; the number of parameters depends on the input and the classes of the data."""

    name: str
    parameters: int
    """Number of parameters for ``counted_size``, ``channels`` and ``classes``."""
    image_size: Size | None
    """Height and width of the model input; None: the size of the data's images."""
    counted_size: Size
    """Height and width of the input for which parameters are counted."""
    channels: int
    """Channels of the images for which parameters are counted: 1 is grey, 3 is colour."""
    classes: int
    patch_size: Size
    """Height and width of a patch."""
    width: int
    """Length of a token's vector."""
    depth: int
    """Number of blocks."""
    heads: int
    """Number of attention heads of each block."""


def list_models() -> list[ModelRow]:
    """List every architecture of the registry."""
    rows = []
    for name, entry in MODELS.items():
        config = listed_config(name)
        rows.append(
            ModelRow(
                name=name,
                parameters=config.num_parameters,
                image_size=config.image_size if "image_size" in entry else None,
                counted_size=config.image_size,
                channels=config.in_channels,
                classes=config.num_classes,
                patch_size=config.patch_size,
                width=config.width,
                depth=config.depth,
                heads=config.num_heads,
            )
        )
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRow:
    """One data set, and whether it is ready for use."""

    name: str
    summary: str
    classes: int | None
    """Number of classes. Here and in the fields below, None: not known before the data set is downloaded."""
    train_images: int | None
    """Number of training images."""
    test_images: int | None
    """Number of test images; 0: there are none."""
    image_size: Size | None
    """Height and width of all images; None: images of many sizes, or not known."""
    download_mb: int | None
    """Size of the download in megabytes; 0: nothing to download, because it is bundled."""
    licence: str
    present: bool


def list_datasets(directory: str = "") -> list[DatasetRow]:
    """List every data set of the registry, and others from Kaggle that were downloaded.

    Args:
        directory: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
    """
    chosen = data_dir(directory)
    others = {name: entry for name in unlisted(chosen) if (entry := find_dataset(name))}
    return [
        DatasetRow(
            name=name,
            summary=entry.summary,
            classes=entry.num_classes or None,
            train_images=entry.num_images[0] or None,
            test_images=entry.num_images[1] if entry.num_classes else None,
            image_size=entry.image_size,
            download_mb=entry.download_mb if entry.num_classes else None,
            licence=entry.licence,
            present=entry.is_bundled or is_present(name, chosen),
        )
        for name, entry in (*DATASETS.items(), *others.items())
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadRow:
    """One thing to download: a data set or pretrained weights."""

    name: str
    kind: Literal["data set", "weights"]
    """The kind of download: a data set, or weights."""
    summary: str
    size_mb: int | None
    """Size of the download in megabytes; 0: nothing to download, because it is bundled; None: not known."""
    licence: str
    top1: float | None
    """Published accuracy of weights on ImageNet, 0..1; None: not known, or a data set."""
    present: bool


def list_downloads(directory: str = "") -> list[DownloadRow]:
    """List every data set and all pretrained weights.

    Args:
        directory: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
    """
    from vitcli.models.hub import find_weights

    datasets = [
        DownloadRow(
            name=row.name,
            kind="data set",
            summary=row.summary,
            size_mb=row.download_mb,
            licence=row.licence,
            top1=None,
            present=row.present,
        )
        for row in list_datasets(directory)
    ]
    weights = [
        DownloadRow(
            name=name,
            kind="weights",
            summary=entry.summary,
            size_mb=4 * entry.parameters,
            licence=entry.licence,
            top1=entry.top1 and entry.top1 / 100,
            present=find_weights(entry, weights_dir()) is not None,
        )
        for name, entry in PRETRAINED.items()
    ]
    return datasets + weights


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeRow:
    """One recipe, as described in its ``about`` table."""

    name: str
    summary: str
    command: str
    """The command that trains with it."""
    time: str
    """The time that training takes, in words."""
    accuracy: str
    """The accuracy that it reaches, in words."""


def list_recipes() -> list[RecipeRow]:
    """List every recipe of the package."""
    from vitcli.core.config_files import load_recipe, recipe_names

    rows = []
    for name in recipe_names():
        about = load_recipe(name)["about"]
        rows.append(RecipeRow(name=name, **{field.name: about[field.name] for field in fields(RecipeRow)[1:]}))
    return rows


def recipe_settings(name: str) -> dict[str, dict[str, "Setting"]]:
    """List all settings of a recipe by section and key, each with its source: the recipe or the default.

    Raises:
        UsageError: the recipe does not exist.
    """
    from vitcli.core.config_files import configure, load_recipe, resolved

    recipe = load_recipe(name)
    return resolved(configure(recipe), [recipe])
