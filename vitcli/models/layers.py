"""The parts of a Vision Transformer (Dosovitskiy et al. 2021).

Shapes: B images, C channels, N tokens, D width, H heads, h x w patch grid, P patches.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Size


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's CLIP was trained with."""

    def forward(self, values: Tensor) -> Tensor:
        """Apply the activation to values of any shape."""
        return values * torch.sigmoid(1.702 * values)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU(approximate="tanh"),
    "gelu-quick": QuickGELU,
    "relu": nn.ReLU,
}


class ConvPatchEmbedding(nn.Module):
    """Patch embedding with the weights of a convolution whose stride is its kernel size.

    It is computed as one matrix product over flattened patches, which leaves the tokens contiguous in memory.
    """

    def __init__(self, *, patch_size: Size, in_channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Conv2d(in_channels, width, patch_size, stride=patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images: (B, C, H, W) -> (B, P, D)."""
        patches = cut_patches(images, self.patch_size).permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, ph, pw)
        return F.linear(patches.flatten(3).flatten(1, 2), self.projection.weight.flatten(1), self.projection.bias)


class LinearPatchEmbedding(nn.Module):
    """Patch embedding that flattens each patch in the order (row, column, channel) and projects it linearly."""

    def __init__(self, *, patch_size: Size, in_channels: int, width: int, bias: bool) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(patch_size[0] * patch_size[1] * in_channels, width, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images: (B, C, H, W) -> (B, P, D)."""
        patches = cut_patches(images, self.patch_size).permute(0, 2, 3, 4, 5, 1)  # (B, h, w, ph, pw, C)
        projected: Tensor = self.projection(patches.flatten(3).flatten(1, 2))
        return projected


def cut_patches(images: Tensor, patch_size: Size) -> Tensor:
    """Cut images into patches: (B, C, H, W) -> a view (B, C, h, w, ph, pw)."""
    (batch, channels, height, width), (patch_h, patch_w) = images.shape, patch_size
    rows = images.view(batch, channels, height // patch_h, patch_h, width // patch_w, patch_w)
    return rows.transpose(3, 4)


def sincos_positions(grid: Size, width: int) -> Tensor:
    """Return fixed 2-D sine-cosine positions, (1, P, D): a quarter of the width each for sin and cos of x and of y.

    Source: Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k".
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    frequencies = 10_000.0 ** -torch.linspace(0, 1, width // 4, device=rows.device)
    x = columns.flatten()[:, None] * frequencies  # (P, D/4)
    y = rows.flatten()[:, None] * frequencies
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)[None]


def resampling(old: Size, new: Size, device: torch.device) -> Tensor:
    """Return the matrix, (new P, P), that resamples one grid of patches to another: bicubic and antialiased.

    The result is a matrix because the gradient of a product is the same in every run, on GPUs too. Code that compiles a
    model has to tell torch.compile that the result is a constant; a decorator here would import torch._dynamo, which
    takes seconds.
    """
    return _resampling(old, new, device)


@functools.cache
@torch.inference_mode(mode=False)
def _resampling(old: Size, new: Size, device: torch.device) -> Tensor:
    pixels = torch.eye(old[0] * old[1], device=device).view(1, -1, *old)
    return F.interpolate(pixels, new, mode="bicubic", antialias=True).flatten(2)[0].T.contiguous()


Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Attention function: (queries, keys, values, dropout probability) -> output; all tensors are (B, H, N, D/H)."""


def fused_attention(queries: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    """Compute softmax(q k^T / sqrt(D/H)) v with the fastest kernel available, which never stores the probabilities."""
    return F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)


class Attention(nn.Module):
    """Multi-head self-attention. ``capture`` replaces ``attend`` to see the probabilities."""

    def __init__(self, *, width: int, num_heads: int, qkv_bias: bool, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_dropout = attention_dropout
        self.attend: Attend = fused_attention
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, num_read: int | None = None) -> Tensor:
        """Apply attention: (B, N, D) -> (B, N, D).

        With ``num_read``, only the first tokens are computed, (B, num_read, D); they attend to all tokens.
        """
        batch, length, width = tokens.shape
        queries, keys, values = (  # 3 x (B, H, N, D/H); chunks, because their gradients are joined by a single copy
            part.view(batch, length, self.num_heads, width // self.num_heads).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, dim=-1)
        )
        dropout = self.attention_dropout if self.training else 0.0
        mixed = self.attend(queries[:, :, :num_read], keys, values, dropout).transpose(1, 2)  # (B, N, H, D/H)
        output: Tensor = self.dropout(self.projection(mixed.flatten(2)))
        return output

    def initialise_as_torch(self) -> None:
        """Draw initial weights as ``nn.MultiheadAttention`` does."""
        nn.init.xavier_uniform_(self.qkv.weight)
        for layer in (self.qkv, self.projection):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class PatchConv(nn.Module):
    """Depthwise convolution over the grid of patches, which mixes each feature of neighbouring patches.

    At first it changes nothing. Tokens before the patches never change.
    Source: Li et al. 2021, "LocalViT: Bringing locality to vision transformers".
    """

    def __init__(self, features: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(features, 1, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(features))
        nn.init.dirac_(self.weight, groups=features)

    def forward(self, tokens: Tensor, grid: Size) -> Tensor:
        """Mix patches: (B, N, F) -> (B, N, F); the last h x w tokens are the patches."""
        first = tokens.shape[1] - grid[0] * grid[1]
        images = tokens[:, first:].unflatten(1, grid).permute(0, 3, 1, 2)  # (B, F, h, w) in the memory format of CPUs
        mixed = F.conv2d(images, self.weight, self.bias, padding="same", groups=len(self.weight))
        patches = mixed.flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :first], patches], dim=1) if first else patches


class MLP(nn.Module):
    """Two linear layers around an activation, applied to every token; a convolution may mix neighbouring patches."""

    def __init__(self, *, width: int, hidden_width: int, kernel_size: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_width)
        self.conv = PatchConv(hidden_width, kernel_size) if kernel_size else None
        self.activation = _ACTIVATIONS[activation]()
        self.fc2 = nn.Linear(hidden_width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, grid: Size) -> Tensor:
        """Apply the MLP: (B, N, D) -> (B, N, D)."""
        hidden = self.fc1(tokens)
        if self.conv is not None:
            hidden = self.conv(hidden, grid)
        output: Tensor = self.dropout(self.fc2(self.dropout(self.activation(hidden))))
        return output


class LayerScale(nn.Module):
    """A learned factor per feature, small at first (Touvron et al. 2021, "Going deeper with image transformers")."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((width,), initial))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale the features: (B, N, D) -> (B, N, D)."""
        return tokens * self.factor


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): a residual branch is left out for whole images at random."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: Tensor) -> Tensor:
        """Drop the branch at random: (B, N, D) -> (B, N, D); the expected value does not change."""
        if not self.training or self.probability == 0:
            return branch
        keep = 1 - self.probability
        mask = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep)
        return branch * (mask / keep)


class Block(nn.Module):
    """Attention, then MLP, each in a residual branch, with its norm before (pre) or after (post) it."""

    def __init__(self, config: ModelConfig, *, drop_path: float) -> None:
        super().__init__()
        self.norm_first = config.block_norm == "pre"
        self.attention_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = Attention(
            width=config.width,
            num_heads=config.num_heads,
            qkv_bias=config.qkv_bias,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.mlp_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(
            width=config.width,
            hidden_width=config.mlp_width,
            kernel_size=config.mlp_conv,
            activation=config.activation,
            dropout=config.dropout,
        )
        self.attention_scale = LayerScale(config.width, config.layer_scale) if config.layer_scale else nn.Identity()
        self.mlp_scale = LayerScale(config.width, config.layer_scale) if config.layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, grid: Size, num_read: int | None = None) -> Tensor:
        """Apply the block: (B, N, D) -> (B, N, D), or (B, num_read, D) if only the first tokens are read.

        ``grid`` has the rows and columns of the patches.
        """
        output: Tensor
        read = tokens[:, :num_read]
        if self.norm_first:
            attended = self.attention_scale(self.attention(self.attention_norm(tokens), num_read))
            read = read + self.drop_path(attended)
            output = read + self.drop_path(self.mlp_scale(self.mlp(self.mlp_norm(read), grid)))
            return output
        attended = self.attention_scale(self.attention(tokens, num_read))
        tokens = self.attention_norm(read + self.drop_path(attended))
        output = self.mlp_norm(tokens + self.drop_path(self.mlp_scale(self.mlp(tokens, grid))))
        return output


def build_head(config: ModelConfig) -> nn.Sequential:
    """Build the head, (B, D) -> (B, classes): a linear layer, maybe after a hidden layer with ReLU.

    Without classes, the head is empty.
    """
    if not config.num_classes:
        return nn.Sequential()
    if not config.head_width:
        return nn.Sequential(nn.Dropout(config.head_dropout), nn.Linear(config.width, config.num_classes))
    return nn.Sequential(
        nn.Linear(config.width, config.head_width),
        nn.ReLU(),
        nn.Dropout(config.head_dropout),
        nn.Linear(config.head_width, config.num_classes),
    )
