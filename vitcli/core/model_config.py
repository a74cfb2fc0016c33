"""The configuration of a model: the architecture of one Vision Transformer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vitcli.core.errors import UsageError
from vitcli.core.preprocessing import Size, format_size

_MOST_FLOAT, _MOST_INT = 3e38, 2**31
_MOST_BLOCKS = 1000
_MOST_VALUES = 10**11
"""Bounds of sizes that no machine could train, so that a typo or a broken file ends with a message."""


def check(condition: bool, message: str, hint: str = "") -> None:  # noqa: FBT001 - reads as `assert` does
    """Raise UsageError with ``message`` and ``hint`` unless ``condition`` is true."""
    if not condition:
        raise UsageError(message, hint=hint)


def check_numbers(config: object) -> None:
    """Raise UsageError if a field of a dataclass is NaN, infinite, or larger than any sensible number."""
    for each in fields(config):  # type: ignore[arg-type]
        value = getattr(config, each.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                if not abs(number) < _MOST_FLOAT:  # NaN is not either
                    what = "too large" if math.isfinite(number) else "not finite"
                    raise UsageError(f"{each.name} = {value} is {what}")
            elif isinstance(number, int) and each.name != "seed" and abs(number) > _MOST_INT:
                raise UsageError(f"{each.name} = {value} is too large")


def check_shares(owner: object, *names: str) -> None:
    """Raise UsageError unless the named fields of ``owner`` are in [0, 1)."""
    for name in names:
        value = getattr(owner, name)
        check(0 <= value < 1, f"{name} = {value:g} is not at least 0 and less than 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The complete architecture of one Vision Transformer; ``models.registry`` holds named ones."""

    name: str = "custom"
    """Name of the registry entry that the architecture is based on."""
    image_size: Size = (224, 224)
    patch_size: Size = (16, 16)
    in_channels: int = 3
    num_classes: int = 1000
    """Number of classes; 0: no head, and the model returns the pooled features."""
    width: int = 192
    """Features per token."""
    depth: int = 12
    """Number of blocks."""
    num_heads: int = 3
    mlp_width: int = 768
    mlp_conv: int = 0
    """Kernel size of a depthwise convolution over the patches in the MLP, after its first layer (Li et al. 2021,
    LocalViT), with ``pooling`` patches or tokens: small models learn faster from mixed neighbours; 0: none."""
    patch_embedding: Literal["conv", "linear"] = "conv"
    """Layout of the patch weights: a convolution (C, h, w), or a linear layer on unfolded pixels (h, w, C)."""
    patch_bias: bool = True
    class_token: bool = True
    distillation: Literal["none", "token", "head"] = "none"
    """Distillation token, a second token like the class token (DeiT, Touvron et al. 2021); with ``head`` it has its own
    classifier, and the logits of both classifiers are averaged."""
    num_registers: int = 0
    """Number of register tokens (Darcet et al. 2024), placed just before the patches; they have no positions."""
    positions: Literal["learned", "sincos"] = "learned"
    """Position embedding; ``sincos`` is fixed, 2-D, and zero for all tokens except the patches."""
    prefix_positions: bool = True
    """Give the class and distillation tokens positions too."""
    input_norm: bool = False
    """LayerNorm before the first block, as in CLIP."""
    pooling: Literal["class", "tokens", "patches"] = "class"
    """Input of the head: the class token, the mean of all tokens, or the mean of the patches."""
    block_norm: Literal["pre", "post"] = "pre"
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    """LayerNorm before pooling, after it, or not at all."""
    norm_eps: float = 1e-6
    activation: Literal["gelu", "gelu-tanh", "gelu-quick", "relu"] = "gelu"
    """``gelu-quick``: x * sigmoid(1.702 x), as in OpenAI's CLIP."""
    qkv_bias: bool = True
    layer_scale: float = 0.0
    """Initial LayerScale (Touvron et al. 2021); 0: none."""
    drop_path: float = 0.0
    """Stochastic depth (Huang et al. 2016): drop rate of the last block; it grows linearly from the first block."""
    dropout: float = 0.0
    """Dropout rate after the embedding, after attention and in the MLP."""
    embedding_dropout: float | None = None
    """Dropout rate after the embedding alone; None: the same as ``dropout``."""
    attention_dropout: float = 0.0
    head_width: int = 0
    """Width of an MLP head's hidden layer; 0: a linear head."""
    head_dropout: float = 0.0
    init: Literal["normal", "torch", "torch-encoder"] = "normal"
    """Initial weights: normal, with ``init_std`` and biases of 0; ``torch``: as torch initialises each layer;
    ``torch-encoder``: as torch initialises its ``nn.TransformerEncoder``, in which all blocks begin with equal weights."""
    embedding_init: Literal["normal", "zeros", "unit"] = "normal"
    """Initial tokens and positions: normal, with ``init_std``; zeros; ``unit``: tokens normal with a standard deviation
    of 1, and positions uniform in 0..1."""
    init_std: float = 0.02
    """Standard deviation of the normal distribution that initialises the weights."""
    patch_init_std: float = 0.02
    """Standard deviation for the patch embedding; 1 / sqrt(pixels of a patch) suits sincos positions."""

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("in_channels", "width", "depth", "num_heads", "mlp_width"):
            check(getattr(self, name) > 0, f"{name} = {getattr(self, name)} is not positive")
        for name in ("num_classes", "num_registers", "head_width", "layer_scale", "norm_eps"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")
        check(
            self.mlp_conv >= 0 and (self.mlp_conv % 2 == 1 or not self.mlp_conv),
            f"mlp_conv = {self.mlp_conv} is not an odd number",
            "--set model.mlp_conv=3, or 0 for none",
        )
        check(
            not self.mlp_conv or self.pooling != "class",
            "mlp_conv mixes patches, which pooling 'class' does not read after the last attention",
            "--set model.pooling=patches, or --set model.mlp_conv=0",
        )
        check_shares(self, "drop_path", "dropout", "attention_dropout", "head_dropout")
        if self.embedding_dropout is not None:
            check_shares(self, "embedding_dropout")
        check(min(self.image_size + self.patch_size) > 0, "image and patch size must be positive")
        check(self.init_std >= 0 <= self.patch_init_std, "init_std and patch_init_std must not be negative")
        check(self.depth <= _MOST_BLOCKS, f"depth = {self.depth} is above {_MOST_BLOCKS:,}")
        values = self.num_parameters + self.width * self.num_positions
        check(values <= _MOST_VALUES, f"the model has {values:.3g} weights and positions, more than {_MOST_VALUES:.0e}")
        check(
            self.width % self.num_heads == 0,
            f"width {self.width} is not divisible by {self.num_heads} heads",
            f"the nearest width that works: --set model.width={_nearest_multiple(self.width, self.num_heads)}",
        )
        (image_h, image_w), (patch_h, patch_w) = self.image_size, self.patch_size
        nearest = (_nearest_multiple(image_h, patch_h), _nearest_multiple(image_w, patch_w))
        check(
            image_h % patch_h == 0 and image_w % patch_w == 0,
            f"image size {format_size(self.image_size)} is not divisible by patch size {format_size(self.patch_size)}",
            f"the nearest image size that works: --image-size {format_size(nearest)}",
        )
        check(
            self.class_token or self.pooling != "class",
            "pooling 'class' needs a class token",
            "--set model.pooling=patches, or --set model.class_token=true",
        )
        check(
            self.distillation == "none" or self.pooling == "class",
            f"a distillation token stands beside a class token, not with pooling {self.pooling!r}",
            "--set model.pooling=class, or --set model.distillation=none",
        )
        check(
            self.positions != "sincos" or self.width % 4 == 0,
            f"sincos positions need a width divisible by 4, not {self.width}",
            f"--set model.width={_nearest_multiple(self.width, 4)}",
        )

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        width = self.width
        pixels = self.patch_size[0] * self.patch_size[1] * self.in_channels
        embedding = _linear(pixels, width) - width * (not self.patch_bias) + 2 * width * self.input_norm
        tokens = width * self.num_prefix_tokens
        positions = width * self.num_positions if self.positions == "learned" else 0
        attention = width * 3 * width + 3 * width * self.qkv_bias + _linear(width, width)
        conv = self.mlp_width * (self.mlp_conv**2 + 1) if self.mlp_conv else 0
        mlp = _linear(width, self.mlp_width) + conv + _linear(self.mlp_width, width)
        norms = 4 * width
        scales = 2 * width if self.layer_scale else 0
        final_norm = 2 * width if self.final_norm != "none" else 0
        blocks = self.depth * (attention + mlp + norms + scales)
        return embedding + tokens + positions + blocks + final_norm + self._num_head_parameters

    @property
    def _num_head_parameters(self) -> int:
        width, hidden, classes = self.width, self.head_width, self.num_classes
        if not classes:
            return 0
        head = _linear(width, hidden) + _linear(hidden, classes) if hidden else _linear(width, classes)
        return head * (2 if self.distillation == "head" else 1)

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def num_named_tokens(self) -> int:
        """Number of class and distillation tokens."""
        return int(self.class_token) + int(self.distillation != "none")

    @property
    def num_prefix_tokens(self) -> int:
        """Number of tokens before the patches: class token, distillation token and registers."""
        return self.num_named_tokens + self.num_registers

    @property
    def num_positions(self) -> int:
        """Number of rows of the position embedding."""
        return self.num_named_tokens * self.prefix_positions + self.grid[0] * self.grid[1]


OF_THE_WEIGHTS = ""
"""Model name that means: use the architecture of the weights that training starts from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """The name of a registry entry, and the fields of ModelConfig that differ from it.

    Image size, channels and classes come from the data unless the entry or ``changes`` gives them.
    """

    name: str = "vit-nano-patch4"
    """A name of the registry, or ``OF_THE_WEIGHTS``."""
    changes: Mapping[str, Any] = field(default_factory=dict)


def _linear(inputs: int, outputs: int) -> int:
    """Count the parameters of a linear layer with a bias."""
    return inputs * outputs + outputs


def _nearest_multiple(value: int, of: int) -> int:
    return max(of, (value + of // 2) // of * of)
