"""Checks of converted weights: those of a whole and plain Vision Transformer, in finite floating-point numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vitcli.core.errors import ModelError, some

_BLOCK = {
    *("attention_norm.weight", "attention_norm.bias", "attention.qkv.weight", "attention.projection.weight"),
    *("attention.projection.bias", "mlp_norm.weight", "mlp_norm.bias", "mlp.fc1.weight", "mlp.fc1.bias"),
    *("mlp.fc2.weight", "mlp.fc2.bias"),
}
"""Tensors that every block of our model has."""


def check_weights(weights: Mapping[str, Tensor], left_over: Sequence[str], file: Path) -> None:
    """Refuse weights that are not a whole and plain Vision Transformer.

    Args:
        weights: the weights by our names.
        left_over: the keys of the file that have no place in our model.
        file: the file of the weights.

    Raises:
        ModelError: a tensor has no place, is missing, or is not of finite floating-point numbers.
    """
    strange = [key for key in left_over if _is_essential(key)]
    if strange:
        raise ModelError(
            f"{file} is not a plain Vision Transformer: it has no place for {', '.join(strange[:3])}",
            hint="gated MLPs, relative positions and attention pooling are not supported",
        )
    _refuse_fragments(weights, file)
    _refuse_odd_values(weights, file)


def _is_essential(key: str) -> bool:
    """Tell whether blocks, patches or pooling would compute something else without this tensor."""
    if key.startswith("decoder"):  # of a masked autoencoder
        return False
    parts = ("blocks.", "layers.", ".layer.", "attn_pool", "rope", "relative_position", "patch_embed.", "stem.")
    return any(part in key for part in parts)


def _refuse_odd_values(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an error if a tensor is not of floating-point numbers, or has NaN or infinity."""
    for key, tensor in weights.items():
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(
                f"{file} is quantised: {key} is of {kind} numbers, without the scales that make weights of them",
                hint="take the weights as floating-point numbers",
            )
        numbers = tensor if tensor.itemsize > 1 else tensor.half()  # aminmax does not take numbers of 8 bits
        if tensor.numel() and not all(end.isfinite() for end in numbers.aminmax()):  # 30 times as fast as isfinite
            raise ModelError(f"{file} has NaN or infinity in {key}", hint="download or save it again")


def _refuse_fragments(weights: Mapping[str, Tensor], file: Path) -> None:
    """Raise an error if the weights are not those of a whole model, whose blocks are all alike."""
    needed = {"patch_embedding.projection.weight": 4, "positions": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, dimensions in needed.items():
        if key not in weights or weights[key].ndim != dimensions:
            found = f"with {weights[key].ndim} dimensions, not {dimensions}" if key in weights else "missing"
            raise ModelError(
                f"{file} is not a whole Vision Transformer: {key} is {found}",
                hint="the file may be truncated, or contain only a part of a model",
            )
    blocks: dict[int, set[str]] = {}
    for key in weights:
        if key.startswith("blocks."):
            _, number, rest = key.split(".", 2)
            blocks.setdefault(int(number), set()).add(rest)
    for at in range(max(blocks) + 1):
        if missing := sorted((_BLOCK | blocks[0]) - blocks.get(at, set())):
            raise ModelError(
                f"{file} is not a whole Vision Transformer: block {at} lacks {some(missing)}",
                hint="the file may be incomplete; models without biases, or with RMSNorm, are not supported",
            )
