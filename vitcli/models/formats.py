"""Names of weights in other libraries' Vision Transformers, and their conversion to our names and back.

A format is a table of names. Our models store queries, keys and values in one ``attention.qkv``. If a format stores
them separately, the conversion uses three names that no model has: ``attention.q``, ``.k`` and ``.v``, below
``attention.heads.N`` if the heads are separate too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vitcli.core.errors import ModelError

Names = tuple[tuple[str, str], ...]
"""Pairs (ours, theirs): whole keys or their beginnings, ``{}`` for a number. Several of theirs may mean one of ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """The names of a library's weights, and the facts that its tensors do not show."""

    name: str
    patches: str
    """The key by which the format is recognised, usually of the patch embedding."""
    names: Names
    activations: Mapping[str, str] = field(default_factory=dict)
    """Our names of activations -> theirs."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig for all models of the format, unless a configuration beside the weights overrides them."""


def _below(theirs: str, **parts: str) -> Names:
    """Return the names of a block's parts; ``__`` in our names stands for a dot."""
    return tuple((f"blocks.{{}}.{ours.replace('__', '.')}", f"{theirs}.{part}") for ours, part in parts.items())


TIMM = Format(
    name="timm",
    patches="patch_embed.proj.weight",
    names=(
        ("class_token", "cls_token"),
        ("distillation_token", "dist_token"),
        ("registers", "reg_token"),
        ("registers", "register_tokens"),  # DINOv2's own files
        ("positions", "pos_embed"),
        ("patch_embedding.projection", "patch_embed.proj"),
        ("input_norm", "norm_pre"),
        ("norm", "norm"),
        ("norm", "fc_norm"),  # of the pooled tokens
        ("head.1", "head"),
        ("distillation_head.1", "head_dist"),
        *_below(
            "blocks.{}",
            attention_norm="norm1",
            attention__qkv="attn.qkv",
            attention__projection="attn.proj",
            attention_scale__factor="ls1.gamma",
            mlp_norm="norm2",
            mlp__fc1="mlp.fc1",
            mlp__fc2="mlp.fc2",
            mlp_scale__factor="ls2.gamma",
        ),
        *_below("blocks.{}", attention_scale__factor="gamma_1", mlp_scale__factor="gamma_2"),  # DeiT III's own files
    ),
    activations={"gelu": "gelu", "gelu-tanh": "gelu_tanh", "gelu-quick": "quick_gelu", "relu": "relu"},
    settings={"norm_eps": 1e-6},
)
TORCHVISION = Format(
    name="torchvision",
    patches="conv_proj.weight",
    names=(
        ("class_token", "class_token"),
        ("positions", "encoder.pos_embedding"),
        ("patch_embedding.projection", "conv_proj"),
        ("norm", "encoder.ln"),
        ("head.1", "heads.head"),
        *_below(
            "encoder.layers.encoder_layer_{}",
            attention_norm="ln_1",
            attention__qkv__weight="self_attention.in_proj_weight",
            attention__qkv__bias="self_attention.in_proj_bias",
            attention__projection="self_attention.out_proj",
            mlp_norm="ln_2",
            mlp__fc1="mlp.0",
            mlp__fc2="mlp.3",
        ),
        *_below("encoder.layers.encoder_layer_{}", mlp__fc1="mlp.linear_1", mlp__fc2="mlp.linear_2"),  # before 0.13
    ),
    settings={"norm_eps": 1e-6},
)
TRANSFORMERS = Format(
    name="transformers",
    patches="embeddings.patch_embeddings.projection.weight",
    names=(
        ("class_token", "embeddings.cls_token"),
        ("distillation_token", "embeddings.distillation_token"),
        ("registers", "embeddings.register_tokens"),
        ("positions", "embeddings.position_embeddings"),
        ("patch_embedding.projection", "embeddings.patch_embeddings.projection"),
        ("norm", "layernorm"),
        ("head.1", "classifier"),
        ("head.1", "cls_classifier"),
        ("distillation_head.1", "distillation_classifier"),
        *_below(
            "layers.{}",
            attention_norm="layernorm_before",
            attention__q="attention.q_proj",
            attention__k="attention.k_proj",
            attention__v="attention.v_proj",
            attention__projection="attention.o_proj",
            mlp_norm="layernorm_after",
            mlp__fc1="mlp.fc1",
            mlp__fc2="mlp.fc2",
        ),
        *_below(  # on disk, and in releases before 5
            "encoder.layer.{}",
            attention_norm="layernorm_before",
            attention__q="attention.attention.query",
            attention__k="attention.attention.key",
            attention__v="attention.attention.value",
            attention__projection="attention.output.dense",
            mlp_norm="layernorm_after",
            mlp__fc1="intermediate.dense",
            mlp__fc2="output.dense",
        ),
        *_below(  # DINOv2
            "encoder.layer.{}",
            attention_norm="norm1",
            attention_scale__factor="layer_scale1.lambda1",
            mlp_norm="norm2",
            mlp__fc1="mlp.fc1",
            mlp__fc2="mlp.fc2",
            mlp_scale__factor="layer_scale2.lambda1",
        ),
    ),
    activations={"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "gelu-quick": "quick_gelu", "relu": "relu"},
    settings={"norm_eps": 1e-12},
)
TUTORIAL = Format(
    name="CIFAR-10 tutorial",
    patches="embedding.patch_embeddings.projection.weight",
    names=(
        ("class_token", "embedding.cls_token"),
        ("positions", "embedding.position_embeddings"),
        ("patch_embedding.projection", "embedding.patch_embeddings.projection"),
        ("head.1", "classifier"),
        *_below(
            "encoder.blocks.{}",
            attention_norm="layernorm_1",
            attention__qkv="attention.qkv_projection",
            attention__projection="attention.output_projection",
            mlp_norm="layernorm_2",
            mlp__fc1="mlp.dense_1",
            mlp__fc2="mlp.dense_2",
        ),
        *(
            (f"blocks.{{}}.attention.heads.{{}}.{word[0]}", f"encoder.blocks.{{}}.attention.heads.{{}}.{word}")
            for word in ("query", "key", "value")
        ),
    ),
    settings={"norm_eps": 1e-5, "activation": "gelu-tanh", "num_heads": 4},
)
OPENCLIP = Format(
    name="OpenCLIP",
    patches="ln_pre.weight",
    names=(
        ("class_token", "class_embedding"),
        ("positions", "positional_embedding"),
        ("patch_embedding.projection", "conv1"),
        ("input_norm", "ln_pre"),
        ("norm", "ln_post"),
        *_below(
            "transformer.resblocks.{}",
            attention_norm="ln_1",
            attention__qkv__weight="attn.in_proj_weight",
            attention__qkv__bias="attn.in_proj_bias",
            attention__projection="attn.out_proj",
            attention_scale__factor="ls_1.gamma",
            mlp_norm="ln_2",
            mlp__fc1="mlp.c_fc",
            mlp__fc2="mlp.c_proj",
            mlp_scale__factor="ls_2.gamma",
        ),
    ),
    settings={"norm_eps": 1e-5},
)
FORMATS = (TIMM, TORCHVISION, TRANSFORMERS, TUTORIAL, OPENCLIP)

_WRAPPERS = ("module.", "_orig_mod.", "model.", "vit.", "deit.")
"""Prefixes that training scripts and larger models put before every key."""
_PREFERRED = ("ema", "teacher")
"""Words in the prefixes of models that are preferred to others in the same file."""
_OTHER_MODELS = {
    "student",
    "teacher",
    "text",
    "text_model",
    "transformer",
    "token_embedding",
    "momentum_encoder",
    "predictor",
}
"""First words of keys that belong to another model in the same file."""


def recognise(keys: Iterable[str]) -> tuple[Format, str] | None:
    """Recognise weights by the name of their patch embedding, whatever stands before it.

    Returns:
        The format, and the prefix of the keys, for example ``teacher.backbone.``; None: no format is recognised. Of a
        teacher and a student, or of several models, the averaged one comes first, then the teacher.
    """
    bare = [_bare(key) for key in keys]
    for form in FORMATS:
        ends = [key for key in bare if key == form.patches or key.endswith(f".{form.patches}")]
        prefixes = sorted((key.removesuffix(form.patches) for key in ends), key=lambda each: (len(each), each))
        if prefixes:
            wanted = (each for word in _PREFERRED for each in prefixes if word in each)
            return form, next(wanted, prefixes[0])
    return None


def without_prefix(weights: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """Remove a prefix, or as many of its words as a key begins with, so that a head beside the backbone stays.

    Returns:
        The weights, and the keys of other models in the same file, such as ``student.`` beside ``teacher.``.
    """
    words = prefix.split(".")[:-1]
    beginnings = [".".join(words[:count]) + "." for count in range(len(words), 0, -1)]
    kept: dict[str, Tensor] = {}
    outside = []
    for key, tensor in weights.items():
        bare = _bare(key)
        beginning = next((each for each in beginnings if bare.startswith(each)), "")
        if words and not beginning:
            outside.append(key)
        else:
            kept[bare.removeprefix(beginning)] = tensor
    beside = [key for key in outside if _bare(key) not in kept and _bare(key).partition(".")[0] not in _OTHER_MODELS]
    return kept | {_bare(key): weights[key] for key in beside}, [key for key in outside if key not in beside]


def to_ours(weights: Mapping[str, Tensor], names: Names) -> tuple[dict[str, Tensor], list[str]]:
    """Convert weights to our names: rename them, and join queries, keys and values.

    Returns:
        Weights by our names, and the keys that have no place in our model.

    Raises:
        ModelError: two tensors have the same place.
    """
    patterns = [(_pattern(theirs), ours) for ours, theirs in names]
    renamed: dict[str, Tensor] = {}
    left_over = []
    for key, tensor in weights.items():
        name = _renamed(_bare(key), patterns)
        if name is None:
            left_over.append(key)
        elif name in renamed:
            raise ModelError(f"two tensors of these weights have the same place in the model; one of them is {key}")
        else:
            renamed[name] = tensor
    heads = _joined(renamed, re.compile(r"(.*\.attention)\.heads\.(\d+)(\.[qkv]\.(?:weight|bias))"))
    return _joined(heads, re.compile(r"(.*\.attention)\.([qkv])(\.(?:weight|bias))"), into=".qkv"), left_over


def to_theirs(weights: Mapping[str, Tensor], names: Names, keys: Iterable[str]) -> dict[str, Tensor]:
    """Convert our weights for a model with exactly ``keys``: split queries, keys and values, and rename.

    Raises:
        KeyError: the model has a key that none of our weights can fill.
    """
    parts: dict[str, Tensor] = dict(weights)
    for key, tensor in weights.items():
        if ".attention.qkv." in key:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                parts[key.replace(".qkv.", f".{letter}.")] = part
    patterns = [(_pattern(theirs), ours) for ours, theirs in names]
    renamed = {key: _renamed(_bare(key), patterns) for key in keys}
    return {key: parts[name] for key, name in renamed.items() if name is not None}


def _bare(key: str) -> str:
    while wrapper := next((each for each in _WRAPPERS if key.startswith(each)), ""):
        key = key.removeprefix(wrapper)
    return key


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + r"(?=\.|$)")


def _renamed(key: str, patterns: list[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, other in patterns:
        if found := pattern.match(key):
            return other.format(*found.groups()) + key[found.end() :]
    return None


def _joined(weights: Mapping[str, Tensor], pattern: re.Pattern[str], into: str = "") -> dict[str, Tensor]:
    """Join tensors whose keys match along the rows, in the order of the pattern's second group."""
    joined: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        if found := pattern.fullmatch(key):
            before, part, after = found.groups()
            parts.setdefault(before + into + after, {})[part] = tensor
        else:
            joined[key] = tensor
    for key, by_part in parts.items():
        order = sorted(by_part, key=lambda part: int(part) if part.isdigit() else "qkv".index(part))
        joined[key] = torch.cat([by_part[part] for part in order])
    return joined
