"""Configurations that timm, transformers and the CIFAR-10 tutorial write beside weights."""

import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from vitcli.core.errors import ModelError
from vitcli.core.stored import checked, read_json
from vitcli.models.formats import TIMM, TRANSFORMERS, TUTORIAL, Format
from vitcli.models.pretrained import CLIP, HALF, IMAGENET, Traits
from vitcli.models.timm_names import check_plain, settings_of_name

_FILTERS: dict[Any, Literal["bicubic", "bilinear"]] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters, and our names."""
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {"resample": 2, "image_mean": HALF[0], "image_std": HALF[1]},
    "DeiT": {"resample": 3, "do_center_crop": True, "image_mean": HALF[0], "image_std": HALF[1]},
    "Beit": {"resample": 3, "do_center_crop": True, "image_mean": HALF[0], "image_std": HALF[1]},
    "Bit": {"resample": 3, "do_center_crop": True, "image_mean": CLIP[0], "image_std": CLIP[1]},
    "CLIP": {"resample": 3, "do_center_crop": True, "image_mean": CLIP[0], "image_std": CLIP[1]},
}
"""The image processors of transformers that prepare images as vit can, with the values of entries that a file lacks."""
_IN_ALL_PROCESSORS: dict[str, Any] = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
}
_PROCESSOR_FILE = "preprocessor_config.json"
_POOLING = {"token": "class", "avg": "patches"}
"""timm's names of poolings, and ours."""
_NO_POOLING = {"map": "attention pooling"}
_ARGUMENTS = {
    *(
        "img_size",
        "patch_size",
        "in_chans",
        "num_classes",
        "global_pool",
        "embed_dim",
        "depth",
        "num_heads",
        "mlp_ratio",
    ),
    *(
        "qkv_bias",
        "proj_bias",
        "init_values",
        "class_token",
        "pos_embed",
        "no_embed_class",
        "reg_tokens",
        "pre_norm",
        "final_norm",
    ),
    *("fc_norm", "pool_include_prefix", "act_layer", "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate"),
    *(
        "attn_drop_rate",
        "drop_path_rate",
        "dynamic_img_size",
        "dynamic_img_pad",
        "strict_img_size",
        "weight_init",
        "fix_init",
    ),
}
"""Arguments of timm's VisionTransformer that the tensors show, that are read here, or that change no prediction."""
_PLAIN_TYPES = ("vit", "deit", "vit_mae", "vit_msn", "dinov2", "dinov2_with_registers")
"""Model types of transformers that compute as our model does."""
_USUAL_PROCESSORS = {"deit": "DeiT", "dinov2": "Bit", "dinov2_with_registers": "Bit"}
"""The image processors of model types, for files that do not name theirs; of the others, it is ViT's."""
_TYPES_AGAINST = {
    "beit": "relative positions",
    "data2vec-vision": "relative positions",
    "vit_hybrid": "a convolutional stem",
    "ijepa": "no class token and no usual positions",
    "yolos": "detection tokens",
    "dinov3_vit": "rotary positions",
    "pixtral": "rotary positions",
    "swin": "windowed attention",
    "swinv2": "windowed attention",
}


def read_traits(file: Path, form: Format) -> Traits:
    """Read the configuration in the folder of a file of weights; return empty traits if there is none.

    Raises:
        ModelError: the configuration cannot be read, or vit cannot build its model.
    """
    config = _json(file.with_name("config.json"))
    images = _json(file.with_name(_PROCESSOR_FILE))
    try:
        traits: Traits = checked(asdict(_traits(config, images, form, file)), Traits)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ModelError(f"{file.with_name('config.json')} cannot be understood: {error}") from None
    if traits.crop_fraction is not None and not 0 < traits.crop_fraction <= 1:
        raise ModelError(f"the crop fraction beside {file} is {traits.crop_fraction}, not between 0 and 1")
    return traits


def _traits(config: dict[str, Any], images: dict[str, Any], form: Format, file: Path) -> Traits:
    if form is TIMM:
        return _timm(config)
    if form is TRANSFORMERS:
        is_published_deit = any(part.startswith("models--facebook--deit-") for part in file.parts)
        return _transformers(config, images, is_published_deit=is_published_deit)
    if form is TUTORIAL and "num_attention_heads" in config:
        return Traits(settings={"num_heads": config["num_attention_heads"]})
    return Traits()


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = read_json(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    return content


def _timm(config: dict[str, Any]) -> Traits:
    data = {**config, **(config.get("pretrained_cfg") or {})}
    architecture = str(config.get("architecture") or "")
    arguments = config.get("model_args") or {}
    settings: dict[str, Any] = {}
    if architecture:
        check_plain(architecture)
        settings |= settings_of_name(architecture)
    if unknown := sorted({name for name, value in arguments.items() if value} - _ARGUMENTS):
        raise ModelError(
            f"{architecture or 'the model'} was made with {', '.join(unknown)}, and vit does not know how that changes its predictions",
            hint="plain Vision Transformers can be loaded",
        )
    for name in ("num_heads", "depth"):
        if name in arguments:
            settings[name] = arguments[name]
    if "act_layer" in arguments:
        settings["activation"] = _activation(arguments["act_layer"], form=TIMM)
    pooling = config.get("global_pool", arguments.get("global_pool"))
    if pooling in _POOLING:
        settings["pooling"] = _POOLING[pooling]
        if pooling == "avg" and arguments.get("pool_include_prefix"):
            settings["pooling"] = "tokens"
    elif pooling:
        raise ModelError(
            f"{architecture or 'the model'} pools its tokens by {_NO_POOLING.get(pooling, repr(pooling))}, which vit's model cannot do",
            hint="models that pool by 'token' or 'avg' can be loaded",
        )
    names = data.get("label_names")
    return Traits(
        settings=settings,
        is_listed=bool(architecture),
        classes=tuple(names) if names else None,
        **_timm_images(data),
    )


def _timm_images(data: dict[str, Any]) -> dict[str, Any]:
    mode, interpolation = data.get("crop_mode", "center"), data.get("interpolation")
    resize = "crop" if "crop_pct" in data else None
    if mode == "squash":
        resize = resize and ("squash-crop" if data["crop_pct"] < 1 else "squash")
    elif mode != "center":
        raise _prepared_otherwise("config.json", f"crop_mode {mode!r}", "crop_mode 'center' or 'squash'")
    if interpolation not in {None, *_FILTERS.values()}:
        raise _prepared_otherwise("config.json", f"interpolation {interpolation!r}", "'bicubic' or 'bilinear'")
    return {
        "colours": (tuple(data["mean"]), tuple(data["std"])) if {"mean", "std"} <= data.keys() else None,
        "interpolation": interpolation,
        "resize": resize,
        "crop_fraction": data.get("crop_pct"),
        "image_size": tuple(data["input_size"][1:]) if "input_size" in data else None,
    }


def _transformers(config: dict[str, Any], images: dict[str, Any], *, is_published_deit: bool) -> Traits:
    settings: dict[str, Any] = {}
    kind = config.get("model_type")
    if kind and kind not in _PLAIN_TYPES:
        cause = _TYPES_AGAINST.get(kind)
        raise ModelError(
            f"{kind} of transformers has {cause}, which vit's model does not have"
            if cause
            else f"{kind} is not a model type of transformers that vit knows to compute in the same way",
            hint=f"model types that can be loaded: {', '.join(_PLAIN_TYPES)}",
        )
    facts = {"num_attention_heads": "num_heads", "layer_norm_eps": "norm_eps", "num_hidden_layers": "depth"}
    settings |= {ours: config[theirs] for theirs, ours in facts.items() if theirs in config}
    if "hidden_act" in config:
        settings["activation"] = _activation(config["hidden_act"], form=TRANSFORMERS, gelu_new="gelu-tanh")
    names = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    if names.keys() != set(range(len(names))):
        raise ValueError(f"id2label does not number the classes from 0 to {len(names) - 1}")
    is_named = any(name != f"LABEL_{index}" for index, name in names.items())
    return Traits(
        settings=settings,
        is_listed=bool(kind),
        image_size=_size(config.get("image_size")),
        classes=tuple(names[index] for index in sorted(names)) if is_named else None,
        **_transformers_images(images, kind=str(kind), is_published_deit=is_published_deit),
    )


def _transformers_images(given: dict[str, Any], *, kind: str, is_published_deit: bool) -> dict[str, Any]:
    if not given:
        return {"colours": IMAGENET} if kind == "deit" else {}
    called = (
        given.get("image_processor_type") or given.get("feature_extractor_type") or _USUAL_PROCESSORS.get(kind, "ViT")
    )
    family = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", str(called))
    if family not in _PROCESSORS:
        raise _prepared_otherwise(_PROCESSOR_FILE, f"the processor {called}", f"those of {', '.join(_PROCESSORS)}")
    stated = {name: value for name, value in given.items() if value is not None}
    images = _IN_ALL_PROCESSORS | _PROCESSORS[family] | stated
    _check_steps(images)
    colours = tuple(images["image_mean"]), tuple(images["image_std"])
    is_squashed = isinstance(images.get("size"), dict) and "height" in images["size"]
    if not images["do_normalize"]:
        colours = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if (
        is_published_deit and colours == HALF
    ):  # in their files, although they were trained with ImageNet's, and with crops
        colours = IMAGENET
        is_squashed = False
    traits: dict[str, Any] = {
        "colours": colours,
        "interpolation": _FILTERS[images["resample"]],
        "resize": "squash",
        "crop_fraction": 1.0,
    }
    resized, cropped = _size(images.get("size")), _size(images.get("crop_size"))
    if images.get("do_center_crop") and resized and cropped:
        traits |= {"resize": "squash-crop" if is_squashed else "crop", "crop_fraction": cropped[0] / resized[0]}
    elif isinstance(images.get("size"), dict) and not is_squashed:
        raise _prepared_otherwise(_PROCESSOR_FILE, "the shortest edge alone", "a height and a width, or a crop")
    return traits


def _check_steps(images: dict[str, Any]) -> None:
    """Raise ModelError if images are prepared in steps that vit does not have, or not without."""
    for step in ("do_resize", "do_rescale"):
        if not images[step]:
            raise _prepared_otherwise(_PROCESSOR_FILE, f"{step} false", f"{step} true")
    if not math.isclose(images["rescale_factor"], 1 / 255, rel_tol=1e-3):
        factor = f"rescale_factor {images['rescale_factor']:.4g}"
        raise _prepared_otherwise(_PROCESSOR_FILE, factor, "rescale_factor 0.003922, which is 1/255")
    if images["resample"] not in _FILTERS:
        raise _prepared_otherwise(_PROCESSOR_FILE, f"resample {images['resample']}", "resample 2 or 3")


def _prepared_otherwise(file: str, what: str, known: str) -> ModelError:
    """Return the error for a way to prepare images that vit does not have."""
    hint = (
        "move this file elsewhere to prepare images as is usual for such a model, if that is what it was trained with"
    )
    return ModelError(
        f"{file} beside these weights says {what}, and vit prepares images only with {known}",
        hint=hint if file == _PROCESSOR_FILE else "timm can load this model",
    )


def _activation(name: str, *, form: Format, **also: str) -> str:
    """Return our name of an activation."""
    known = {theirs: ours for ours, theirs in form.activations.items()} | also
    if name not in known:
        raise ModelError(f"activation {name!r} is not one of: {', '.join(known)}")
    return known[name]


def _size(value: Any) -> tuple[int, int] | None:
    """Read a size: a number, a pair, or one of the dictionaries that transformers writes; None: it is not a size."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple):
        return int(value[0]), int(value[1])
    if isinstance(value, dict) and "height" in value:
        return int(value["height"]), int(value["width"])
    if isinstance(value, dict) and "shortest_edge" in value:
        return int(value["shortest_edge"]), int(value["shortest_edge"])
    return None
