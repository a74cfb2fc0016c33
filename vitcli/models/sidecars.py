"""Configurations that timm, transformers and the CIFAR-10 tutorial write beside weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from vitcli.core.errors import ModelError
from vitcli.core.stored import checked, read_json
from vitcli.models.formats import TIMM, TRANSFORMERS, TUTORIAL, Format
from vitcli.models.pretrained import HALF, IMAGENET, Traits
from vitcli.models.timm_names import check_plain, settings_of_name

_BILINEAR, _BICUBIC = 2, 3
"""Pillow's numbers of the resampling filters."""
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
    images = _json(file.with_name("preprocessor_config.json"))
    try:
        traits: Traits = checked(asdict(_traits(config, images, form)), Traits)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ModelError(f"{file.with_name('config.json')} cannot be understood: {error}") from None
    if traits.crop_fraction is not None and not 0 < traits.crop_fraction <= 1:
        raise ModelError(f"the crop fraction beside {file} is {traits.crop_fraction}, not between 0 and 1")
    return traits


def _traits(config: dict[str, Any], images: dict[str, Any], form: Format) -> Traits:
    if form is TIMM:
        return _timm(config)
    if form is TRANSFORMERS:
        return _transformers(config, images)
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
    resize: Literal["crop", "squash", "squash-crop"] | None = "crop" if "crop_pct" in data else None
    if resize and data.get("crop_mode") == "squash":
        resize = "squash-crop" if data["crop_pct"] < 1 else "squash"
    return Traits(
        settings=settings,
        is_listed=bool(architecture),
        colours=(tuple(data["mean"]), tuple(data["std"])) if {"mean", "std"} <= data.keys() else None,
        interpolation=data["interpolation"] if data.get("interpolation") in {"bicubic", "bilinear"} else None,
        resize=resize,
        crop_fraction=data.get("crop_pct"),
        image_size=tuple(data["input_size"][1:]) if "input_size" in data else None,
        classes=tuple(names) if names else None,
    )


def _transformers(config: dict[str, Any], images: dict[str, Any]) -> Traits:
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
    is_named = any(name != f"LABEL_{index}" for index, name in names.items())
    return Traits(
        settings=settings,
        is_listed=bool(kind),
        image_size=_size(config.get("image_size")),
        classes=tuple(names[index] for index in sorted(names)) if is_named else None,
        **_transformers_images(images, is_deit=config.get("model_type") == "deit"),
    )


def _transformers_images(images: dict[str, Any], *, is_deit: bool) -> dict[str, Any]:
    if not images:
        return {"colours": IMAGENET} if is_deit else {}
    colours = tuple(images.get("image_mean", HALF[0])), tuple(images.get("image_std", HALF[1]))
    is_squashed = isinstance(images.get("size"), dict) and "height" in images["size"]
    if not images.get("do_normalize", True):
        colours = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if is_deit and colours == HALF:  # in facebook/deit-*, although DeiT was trained with ImageNet's, and with crops
        colours = IMAGENET
        is_squashed = False
    traits: dict[str, Any] = {
        "colours": colours,
        "interpolation": "bicubic" if images.get("resample") == _BICUBIC else "bilinear",
        "resize": "squash",
        "crop_fraction": 1.0,
    }
    if images.get("do_center_crop"):
        resized, cropped = _size(images.get("size")), _size(images.get("crop_size"))
        if resized and cropped:
            traits |= {"resize": "squash-crop" if is_squashed else "crop", "crop_fraction": cropped[0] / resized[0]}
    return traits


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
