"""Fine-tuning of a pretrained model: all weights, a part of them, or low-rank changes to its matrices.

The head is always trained.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vitcli.core.errors import ModelError
from vitcli.models.vit import VisionTransformer, mean_logits

_LORA_SCALE = 2.0
"""Factor on the product of the two matrices: alpha / rank, with alpha twice the rank."""
_ORIGINAL, _DOWN, _UP = (f".parametrizations.weight.{part}" for part in ("original", "0.down", "0.up"))


def train_only(model: VisionTransformer, part: str) -> None:
    """Freeze a model, except for its head and one of its parts.

    Args:
        model: the model, which is changed in place.
        part: ``head``, ``norm`` (all norms), ``bias`` (all biases), ``attention`` (of every block), or ``last:N``
            (the last N blocks and the final norm); the head is always trained. Empty: train everything.

    Raises:
        ModelError: the model does not have that many blocks.
    """
    chosen = _last_blocks(model, part) if part.startswith("last:") else _PARTS[part]
    norms = {f"{name}." for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        kinds = {"norm"} if name.startswith(tuple(norms)) else set()
        kinds |= {"bias"} if name.endswith(".bias") else set()
        kinds |= {"attention"} if ".attention." in name else set()
        kinds.add(f"layer {model.layer_of(name)}")
        parameter.requires_grad = model.is_head(name) or not chosen or bool(kinds & chosen)


_PARTS: Mapping[str, frozenset[str]] = {
    "": frozenset(),
    "head": frozenset({"nothing else"}),
    "norm": frozenset({"norm"}),
    "bias": frozenset({"bias"}),
    "attention": frozenset({"attention"}),
}
"""Kinds of parameters that are trained in addition to the head; empty: all."""


def _last_blocks(model: VisionTransformer, part: str) -> frozenset[str]:
    """Return the layers that ``last:N`` means, by the numbers of ``layer_of``."""
    depth = model.config.depth
    number = int(part.removeprefix("last:"))
    if not 0 < number <= depth:
        raise ModelError(f"--train-only {part!r}: the model has {depth} blocks", hint=f"last:1 to last:{depth}")
    return frozenset(f"layer {layer}" for layer in range(depth - int(number) + 1, depth + 2))


class LowRank(nn.Module):
    """A low-rank change to a matrix (Hu et al. 2022, "LoRA"): W + 2 up down, where up and down are thin matrices.

    At first, the change is zero.
    """

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, matrix: Tensor) -> Tensor:
        """Add the change to a matrix: (rows, columns) -> (rows, columns)."""
        return torch.addmm(matrix, self.up, self.down, alpha=_LORA_SCALE)


def add_low_rank(model: VisionTransformer, rank: int) -> None:
    """Freeze a model except for its head, and add a trainable low-rank change to every matrix of its blocks."""
    train_only(model, "head")
    for module in model.blocks.modules():
        if isinstance(module, nn.Linear):
            change = LowRank(module.out_features, module.in_features, rank)
            parametrize.register_parametrization(module, "weight", change.to(module.weight.device))


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Merge low-rank changes into the matrices, and return the state of a plain model."""
    plain = {key: value for key, value in weights.items() if ".parametrizations." not in key}
    for key, original in weights.items():
        if key.endswith(_ORIGINAL):
            name = key.removesuffix(_ORIGINAL)
            up, down = weights[name + _UP], weights[name + _DOWN]
            plain[f"{name}.weight"] = torch.addmm(original, up, down, alpha=_LORA_SCALE)
    return plain


class HeadOnly(nn.Module):
    """The head of a model as a separate model, for features computed once: (B, D) or (B, 2, D) -> (B, classes).

    Its weights have the same names as in the whole model, to which it has no reference: a copy of it has no backbone.
    """

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.head = model.head
        self.distillation_head = model.distillation_head
        self.no_decay = frozenset[str]()

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits from the output of ``VisionTransformer.features``."""
        return mean_logits(self.head, self.distillation_head, features)

    def layer_of(self, name: str) -> int:  # noqa: ARG002
        """Return the layer of a parameter: all are in one."""
        return 1

    def is_head(self, name: str) -> bool:  # noqa: ARG002
        """Tell whether a parameter belongs to a classifier: all do."""
        return True
