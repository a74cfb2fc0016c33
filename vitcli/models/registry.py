"""Registry of architectures: a table that does not import torch.

Each entry contains the fields of ModelConfig that differ from its defaults. Sizes follow the ViT and DeiT papers; nano,
mini and micro are our own sizes, for small images; the ``-classic`` models come from published tutorials.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitcli.core.config_files import in_section
from vitcli.core.errors import DataError
from vitcli.core.model_config import ModelChoice, ModelConfig
from vitcli.core.preprocessing import Size, format_size
from vitcli.core.registry import Registry

_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 192, "depth": 12, "num_heads": 3, "mlp_width": 768},
    "small": {"width": 384, "depth": 12, "num_heads": 6, "mlp_width": 1536},
    "base": {"width": 768, "depth": 12, "num_heads": 12, "mlp_width": 3072},
    "large": {"width": 1024, "depth": 24, "num_heads": 16, "mlp_width": 4096},
}
SIZE_FOR_PHOTOS = (64, 64)
"""The input of a model that has no size of its own, for images of different sizes, in pixels."""
_SMALL_IMAGE_SIZES: dict[str, dict[str, int]] = {
    "nano": {"width": 48, "depth": 4, "num_heads": 4, "mlp_width": 192},
    "mini": {"width": 64, "depth": 6, "num_heads": 4, "mlp_width": 256},
    "micro": {"width": 128, "depth": 6, "num_heads": 4, "mlp_width": 512},
}
_CLASSICS: dict[str, dict[str, Any]] = {
    "vit-cassava-classic": {
        **_SIZES["base"],
        "num_heads": 8,
        "image_size": (384, 384),
        "num_classes": 5,
        "qkv_bias": False,
        "init": "torch",
        "embedding_init": "zeros",
        "pooling": "tokens",
        "final_norm": "pooled",
        "norm_eps": 1e-5,
    },
    "vit-cifar10-classic": {
        **_SMALL_IMAGE_SIZES["nano"],
        "image_size": (32, 32),
        "patch_size": (4, 4),
        "num_classes": 10,
        "final_norm": "none",
        "norm_eps": 1e-5,
        "activation": "gelu-tanh",
    },
    "vit-mnist-classic": {
        "image_size": (28, 28),
        "patch_size": (7, 7),
        "in_channels": 1,
        "num_classes": 10,
        "width": 64,
        "depth": 3,
        "num_heads": 8,
        "mlp_width": 2048,
        "patch_embedding": "linear",
        "block_norm": "post",
        "final_norm": "none",
        "norm_eps": 1e-5,
        "activation": "relu",
        "dropout": 0.1,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.1,
        "init": "torch-encoder",
        "embedding_init": "unit",
    },
    "vit-butterflies-classic": {
        **_SIZES["tiny"],
        "image_size": (224, 224),
        "num_classes": 50,
        "head_width": 512,
        "head_dropout": 0.3,
        "init": "torch",
    },
}


def _sized(sizes: Mapping[str, Mapping[str, int]], patches: tuple[int, ...], **rest: Any) -> dict[str, dict[str, Any]]:
    return {
        f"vit-{size}-patch{patch}": {**fields, "patch_size": (patch, patch), **rest}
        for size, fields in sizes.items()
        for patch in patches
    }


MODELS: Registry[Mapping[str, Any]] = Registry(
    "model",
    {
        **_sized(
            _SMALL_IMAGE_SIZES,
            (2, 4, 6, 7),
            num_classes=10,
            class_token=False,
            pooling="patches",
            final_norm="pooled",
        ),
        **_sized(_SIZES, (8, 14, 16, 32), image_size=(224, 224)),
        **_CLASSICS,
    },
    listing="vit models",
)


def model_config(choice: ModelChoice, *, image_size: Size, in_channels: int, num_classes: int) -> ModelConfig:
    """Build the configuration of a chosen model for a data set.

    The user's changes override the entry's fields, and these override ``image_size``, which small-image models take
    from the data. The numbers of channels and classes always come from the data.

    Raises:
        UsageError: the model does not exist (the hint has the nearest name), or the combination is not a model.
        DataError: it does not fit the data set.
    """
    given = {"in_channels": in_channels, "num_classes": num_classes}
    for field, value in given.items():
        if choice.changes.get(field, value) != value:
            raise DataError(f"model.{field} = {choice.changes[field]}, but the data set has {value}")
    fields = {"image_size": image_size, **MODELS[choice.name], **choice.changes, **given, "name": choice.name}
    with in_section("model"):
        return with_its_patches_in_the_name(ModelConfig(**fields))


def with_its_patches_in_the_name(config: ModelConfig) -> ModelConfig:
    """Correct a name such as vit-tiny-patch16 if the patches have another size."""
    return replace(config, name=_with_patches(config.name, config.patch_size))


def _with_patches(name: str, patch_size: Size) -> str:
    return re.sub(r"-patch\d+$", f"-patch{format_size(patch_size)}", name)


def sizes_of(name: str) -> dict[str, Any]:
    """Return the fields that the name of an architecture stands for, in the types of JSON; an unknown name has none."""
    fields: dict[str, Any] = json.loads(json.dumps(MODELS[name])) if name in MODELS else {}
    return fields


def changed_sizes(name: str, model: Mapping[str, Any]) -> str:
    """List the sizes of a model that differ from those of its name: ``width 96, depth 2``.

    Empty: none does, or the name is not that of an architecture.

    Args:
        name: the name of the architecture.
        model: settings of the model by key.
    """
    stem = name.partition("-patch")[0]  # patches of another size than any entry's change no other size
    listed = next((each for each in MODELS if each.partition("-patch")[0] == stem), "")
    if not listed:
        return ""
    usual = {"mlp_conv": 0, "num_registers": 0, "head_width": 0, **sizes_of(listed)}
    keys = ("width", "depth", "num_heads", "mlp_width", "mlp_conv", "num_registers", "head_width")
    return ", ".join(f"{key} {model[key]}" for key in keys if key in model and model[key] != usual.get(key))


def with_sizes(name: str, sizes: str) -> str:
    """Name an architecture with its changed sizes: ``vit-tiny-patch16 (width 96, depth 2)``."""
    return f"{name} ({sizes})" if sizes else name


def choice_in_words(choice: ModelChoice, native_size: Size | None) -> str:
    """Name a chosen model with its changed sizes, and the size of its images in pixels.

    Args:
        choice: the model.
        native_size: the size of all images of the data set; None: they differ.
    """
    entry = {"image_size": native_size or SIZE_FOR_PHOTOS, **MODELS[choice.name], **choice.changes}
    name = _with_patches(choice.name, entry["patch_size"]) if "patch_size" in entry else choice.name
    named = with_sizes(name, changed_sizes(choice.name, choice.changes))
    return "{} at {} x {} pixels".format(named, *entry["image_size"])


def listed_config(name: str) -> ModelConfig:
    """Build the configuration of an entry without a data set: small-image models get 28 x 28 or 48 x 48 pixels."""
    fields = MODELS[name]
    small = {} if "image_size" in fields else {"image_size": (48, 48) if fields["patch_size"] == (6, 6) else (28, 28)}
    return ModelConfig(**{**small, **fields, "name": name})
