"""The same architecture in timm, torchvision and transformers: what each library lacks for it, and its model.

Nothing here imports torch before a model is built, so that unknown names are reported at once.
"""

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vitcli.core.errors import InstallError, ModelError, check_choice
from vitcli.core.model_config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

LIBRARIES = ("timm", "torchvision", "transformers")
"""The libraries whose Vision Transformers can be compared with ours."""


def check_libraries(names: tuple[str, ...]) -> None:
    """Check that libraries are known and installed, without importing them.

    Raises:
        UsageError: a name is unknown.
        InstallError: a library is not installed.
    """
    for name in names:
        check_choice("--against", name, LIBRARIES)
    if missing := [name for name in names if find_spec(name) is None]:
        raise InstallError(f"--against needs {' and '.join(missing)}", hint=f"uv pip install {' '.join(missing)}")


def reasons_against(library: str, config: ModelConfig) -> list[str]:
    """List why a library's Vision Transformer cannot have an architecture; empty: it can."""
    wrong = {"timm": _wrong_for_timm, "torchvision": _wrong_for_torchvision, "transformers": _wrong_for_transformers}
    return [reason for reason, is_so in wrong[library](config).items() if is_so]


def build_counterpart(library: str, config: ModelConfig) -> "nn.Module":
    """Build a library's model of an architecture, with random weights, and compare the number of parameters.

    The models of transformers return an object with ``logits``, the others return logits.

    Raises:
        ModelError: the library lacks a part of the architecture, or builds another one.
    """
    if reasons := [*reasons_against(library, config), *_without_drops(library, config)]:
        raise ModelError(
            f"{library} has no model like {config.name}: there, {reasons[0]}",
            hint="leave it out of --against, or choose another model, for example vit-tiny-patch16",
        )
    build = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}
    model: nn.Module = build[library](config)
    found = sum(parameter.numel() for parameter in model.parameters())
    expected = config.num_parameters + more_parameters(library, config)
    if found != expected:
        raise ModelError(
            f"the model of {library} has {found:,} parameters, not {expected:,}, so the two cannot be compared",
            hint="please report this, with the output of `vit env`",
        )
    return model


def more_parameters(library: str, config: ModelConfig) -> int:
    """Count the parameters that only the library's model has: positions that ours computes or lacks."""
    fixed = config.width * config.num_positions if config.positions == "sincos" else 0
    has_rows = library == "timm" and config.class_token and config.prefix_positions
    return fixed + (config.width * config.num_registers if has_rows else 0)


def timm_arguments(config: ModelConfig) -> dict[str, Any]:
    """Return the arguments that give timm's VisionTransformer an architecture."""
    from vitcli.models.formats import TIMM

    is_class = config.pooling == "class"
    arguments: dict[str, Any] = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_channels,
        "num_classes": config.num_classes,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": config.mlp_width / config.width,
        "qkv_bias": config.qkv_bias,
        "init_values": config.layer_scale or None,
        "class_token": config.class_token,
        "no_embed_class": not config.prefix_positions or not config.class_token,
        "reg_tokens": config.num_registers,
        "pre_norm": config.input_norm,
        "final_norm": config.final_norm != "none",
        "fc_norm": config.final_norm == "pooled" and not is_class,
        "global_pool": "token" if is_class else "avg",
        "pool_include_prefix": config.pooling == "tokens",
        "act_layer": TIMM.activations[config.activation],
    }
    if config.distillation == "head":  # timm sets these itself
        for name in ("class_token", "no_embed_class", "fc_norm", "pool_include_prefix"):
            del arguments[name]
    return arguments


def transformers_model(config: ModelConfig, **labels: Any) -> Any:
    """Build the ViT or DeiT of transformers with an architecture; ``labels`` are arguments about its classes."""
    import transformers

    from vitcli.models.formats import TRANSFORMERS

    build: Any = transformers.ViTForImageClassification
    configure: Any = transformers.ViTConfig
    if config.distillation != "none":
        configure = transformers.DeiTConfig
        build = transformers.DeiTForImageClassification
        if config.distillation == "head":
            build = transformers.DeiTForImageClassificationWithTeacher
    return build(
        configure(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=config.mlp_width,
            hidden_act=TRANSFORMERS.activations[config.activation],
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.attention_dropout,
            layer_norm_eps=config.norm_eps,
            image_size=_side(config.image_size),
            patch_size=_side(config.patch_size),
            num_channels=config.in_channels,
            qkv_bias=config.qkv_bias,
            **labels,
        )
    )


def _timm(config: ModelConfig) -> Any:
    from timm.layers import LayerNorm
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    build: Any = VisionTransformerDistilled if config.distillation == "head" else VisionTransformer
    return build(
        **timm_arguments(config),
        norm_layer=partial(LayerNorm, eps=config.norm_eps),
        pos_drop_rate=config.dropout if config.embedding_dropout is None else config.embedding_dropout,
        proj_drop_rate=config.dropout,
        attn_drop_rate=config.attention_dropout,
        drop_path_rate=config.drop_path,
        drop_rate=config.head_dropout,
    )


def _torchvision(config: ModelConfig) -> Any:
    from torch import nn
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        image_size=config.image_size[0],
        patch_size=config.patch_size[0],
        num_layers=config.depth,
        num_heads=config.num_heads,
        hidden_dim=config.width,
        mlp_dim=config.mlp_width,
        num_classes=config.num_classes,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
    )


def _transformers(config: ModelConfig) -> Any:
    return transformers_model(config, num_labels=config.num_classes, attn_implementation="sdpa")


def _wrong_for_timm(config: ModelConfig) -> Mapping[str, bool]:
    return {
        "blocks have their norms before the branches (no post-norm)": config.block_norm == "post",
        "MLPs have no convolution": bool(config.mlp_conv),
        "heads are linear": bool(config.head_width),
        "the patch embedding has a bias exactly where no norm follows": config.patch_bias == config.input_norm,
        "distilled models always have two heads": config.distillation == "token",
        "the norm of the tokens is left out only with pooling 'class'": (
            config.final_norm == "none" and config.pooling != "class"
        ),
    }


def _wrong_for_transformers(config: ModelConfig) -> Mapping[str, bool]:
    return {
        "blocks have their norms before the branches (no post-norm)": config.block_norm == "post",
        "MLPs have no convolution": bool(config.mlp_conv),
        "heads are linear": bool(config.head_width),
        "there is always a head": not config.num_classes,
        "only the class token is classified": config.pooling != "class",
        "a norm follows the blocks": config.final_norm == "none",
        "there is no norm before the blocks": config.input_norm,
        "the patch embedding is a convolution with a bias": config.patch_embedding != "conv" or not config.patch_bias,
        "there are no register tokens": bool(config.num_registers),
        "there is no LayerScale": bool(config.layer_scale),
        "the class token has a position": not config.prefix_positions,
    }


def _wrong_for_torchvision(config: ModelConfig) -> Mapping[str, bool]:
    is_square = config.image_size[0] == config.image_size[1] and config.patch_size[0] == config.patch_size[1]
    return {
        **_wrong_for_transformers(config),
        "images and patches are square": not is_square,
        "images have three channels": config.in_channels != 3,
        "the activation is GELU": config.activation != "gelu",
        "queries, keys and values have a bias": not config.qkv_bias,
        "there is no distillation token": config.distillation != "none",
    }


def _without_drops(library: str, config: ModelConfig) -> list[str]:
    """List the kinds of dropout in an architecture that a library lacks; they do not matter for its logits."""
    embedding = config.dropout if config.embedding_dropout is None else config.embedding_dropout
    wrong = {
        "there is no stochastic depth": bool(config.drop_path),
        "the dropout of the embedding is that of the blocks": embedding != config.dropout,
        "heads have no dropout": bool(config.head_dropout),
    }
    return [reason for reason, is_so in wrong.items() if is_so and library != "timm"]


def _side(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size
