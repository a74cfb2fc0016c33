"""The models of the published tutorials, written in plain torch from their descriptions, and the names of their weights.

Each is small where it is made so: width, depth and image size come from the configuration.
"""

import math

import torch
from torch import nn

from vitcli.core.model_config import ModelConfig


class EncoderClassifier(nn.Module):
    """MNIST: patches cut by loops and embedded linearly, torch's own post-norm encoder, a head on the class token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        height, width = config.patch_size
        self.patches = nn.Linear(height * width * config.in_channels, config.width)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.width))
        self.positions = nn.Parameter(torch.rand(1, config.grid[0] * config.grid[1] + 1, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.num_heads, config.mlp_width, dropout=config.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.depth)
        self.head = nn.Linear(config.width, config.num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = self.config.patch_size
        rows, columns = self.config.grid
        pixels = images.permute(0, 2, 3, 1)  # channels last: a patch is flattened by row, column, channel
        cut = [
            pixels[:, row * height : (row + 1) * height, column * width : (column + 1) * width].flatten(1)
            for row in range(rows)
            for column in range(columns)
        ]
        tokens = self.patches(torch.stack(cut, dim=1))
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], dim=1) + self.positions
        logits: torch.Tensor = self.head(self.encoder(tokens)[:, 0])
        return logits


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.projection = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (  # (B, H, N, D/H) each
            torch.stack(part.chunk(self.heads, dim=2), dim=1) for part in self.qkv(tokens).chunk(3, dim=2)
        )
        shares = (queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])).softmax(dim=3)
        mixed: torch.Tensor = self.projection(torch.cat((shares @ values).unbind(dim=1), dim=2))
        return mixed


class _Block(nn.Module):
    def __init__(self, config: ModelConfig, activation: nn.Module) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = _Attention(config.width, config.num_heads, bias=config.qkv_bias)
        self.linear1, self.linear2 = (
            nn.Linear(config.width, config.mlp_width),
            nn.Linear(config.mlp_width, config.width),
        )
        self.activation = activation

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens))
        mixed: torch.Tensor = tokens + self.linear2(self.activation(self.linear1(self.mlp_norm(tokens))))
        return mixed


class _PreNorm(nn.Module):
    """What the models of Cassava and CIFAR-10 share: a convolution, a class token, positions and pre-norm blocks."""

    def __init__(self, config: ModelConfig, activation: nn.Module) -> None:
        super().__init__()
        self.patches = nn.Conv2d(config.in_channels, config.width, config.patch_size, stride=config.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.zeros(1, config.grid[0] * config.grid[1] + 1, config.width))
        self.blocks = nn.Sequential(*(_Block(config, activation) for _ in range(config.depth)))
        self.head = nn.Linear(config.width, config.num_classes)

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], dim=1)
        mixed: torch.Tensor = self.blocks(tokens + self.positions)
        return mixed


class CassavaClassifier(_PreNorm):
    """Cassava: the mean over all tokens, then a norm, then a linear layer; exact GELU, no bias in qkv."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, nn.GELU())
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.norm(self.tokens(images).mean(dim=1)))
        return logits


class CifarClassifier(_PreNorm):
    """CIFAR-10: a linear layer on the class token, without a norm after the blocks; GELU by tanh."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, nn.GELU(approximate="tanh"))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.tokens(images)[:, 0])
        return logits


NAMES = (
    (r"^patches\.", "patch_embedding.projection."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.self_attn\.in_proj_", ".attention.qkv."),
    (r"\.self_attn\.out_proj\.", ".attention.projection."),
    (r"\.linear1\.", ".mlp.fc1."),
    (r"\.linear2\.", ".mlp.fc2."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".mlp_norm."),
    (r"^head\.", "head.1."),
)
"""Patterns of their names, and what ours have in the same place."""
