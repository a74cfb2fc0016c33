"""The Vision Transformer: every architecture of ``vit`` is this class with another ModelConfig.

Shapes: B images, C channels, N tokens, D width. Tokens are ordered [class, distillation, registers, patches].
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Size
from vitcli.models.layers import (
    Block,
    ConvPatchEmbedding,
    LinearPatchEmbedding,
    build_head,
    resampling,
    sincos_positions,
)


class VisionTransformer(nn.Module):
    """Vision Transformer, images to logits: (B, C, H, W) -> (B, classes).

    Source: Dosovitskiy et al. 2021, "An image is worth 16x16 words"; ModelConfig names the variants.
    """

    positions: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        embedding = ConvPatchEmbedding if config.patch_embedding == "conv" else LinearPatchEmbedding
        self.patch_embedding = embedding(
            patch_size=config.patch_size, in_channels=config.in_channels, width=config.width, bias=config.patch_bias
        )
        self.class_token = _tokens(int(config.class_token), config.width)
        self.distillation_token = _tokens(int(config.distillation != "none"), config.width)
        self.registers = _tokens(config.num_registers, config.width)
        self._add_positions()
        self.dropout = nn.Dropout(config.dropout if config.embedding_dropout is None else config.embedding_dropout)
        self.input_norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.input_norm else nn.Identity()
        rates = [config.drop_path * index / max(config.depth - 1, 1) for index in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, drop_path=rate) for rate in rates)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.final_norm != "none" else nn.Identity()
        self.head = build_head(config)
        self.distillation_head = build_head(config) if config.distillation == "head" else None
        self.num_read = (1 if self.distillation_head is None else 2) if config.pooling == "class" else None
        """Number of first tokens that the last block computes; None: all."""
        self.heads_apart = False
        """True: in training, the logits of two heads are returned separately, for a teacher (Touvron et al. 2021)."""
        self.grad_checkpointing = False
        """True: in training, blocks keep only their input for the backward pass, and compute the rest again then."""
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits: (B, C, H, W) -> (B, classes); for ``heads_apart``, see ``classify``."""
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Compute the input of the head: (B, C, H, W) -> (B, D), or (B, 2, D) for two heads."""
        return self.pool(self.encode(self.embed(images), images, self.num_read))

    def encode(self, tokens: Tensor, images: Tensor, num_read: int | None = None) -> Tensor:
        """Run tokens through all blocks: (B, N, D) -> (B, N, D), or (B, num_read, D) if only the first ones are read.

        The images (B, C, H, W) have the grid of the patches.
        """
        *lower, last = self.blocks
        grid = self._grid_of(images)
        for block in lower:
            tokens = self._through(block, tokens, grid)
        return self._through(last, tokens, grid, num_read)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits (B, classes) from the output of ``features``.

        In training with ``heads_apart``, return the logits of both heads, (B, 2, classes).
        """
        if self.distillation_head is not None and self.heads_apart and self.training:
            return torch.stack([self.head(features[:, 0]), self.distillation_head(features[:, 1])], dim=1)
        return mean_logits(self.head, self.distillation_head, features)

    def divide_logits(self, temperature: float) -> None:
        """Divide all logits from now on, by dividing the weights of the last layer."""
        for head in (self.head, self.distillation_head):
            if head is not None and len(head):
                last = head[-1]
                assert isinstance(last, nn.Linear)
                for parameter in last.parameters():
                    parameter.data /= temperature

    def embed(self, images: Tensor) -> Tensor:
        """Compute the input of the first block, (B, C, H, W) -> (B, N, D).

        In training, images may have another size than that of the configuration.
        """
        return self.with_positions(self.patch_embedding(images), images)

    def with_positions(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Add positions and the tokens before the patches to embedded patches, (B, P, D) -> (B, N, D)."""
        batch = tokens.shape[0]
        positions = self._positions_for(images) if self.training else self.positions
        if not self.config.prefix_positions:
            tokens = tokens + positions
        named = [
            token.expand(batch, -1, -1) for token in (self.class_token, self.distillation_token) if token is not None
        ]
        if named:
            tokens = torch.cat([*named, tokens], dim=1)
        if self.config.prefix_positions:
            tokens = tokens + positions
        if self.registers is not None:
            split = self.config.num_named_tokens
            tokens = torch.cat([tokens[:, :split], self.registers.expand(batch, -1, -1), tokens[:, split:]], dim=1)
        output: Tensor = self.input_norm(self.dropout(tokens))
        return output

    def pool(self, tokens: Tensor) -> Tensor:
        """Pool the output of the last block to the input of the head: (B, N, D) -> (B, D) or (B, 2, D)."""
        config = self.config
        if config.pooling == "class":  # a norm of one token is the same before and after it is picked
            output: Tensor = self.norm(tokens[:, 0] if self.distillation_head is None else tokens[:, :2])
            return output
        first = config.num_prefix_tokens if config.pooling == "patches" else 0
        if config.final_norm == "pooled":
            output = self.norm(tokens[:, first:].mean(dim=1))
        else:
            output = self.norm(tokens)[:, first:].mean(dim=1)
        return output

    def pooling_row(self) -> Tensor:
        """Return the weight of each token in the pooled vector, (N,), from which attribution starts."""
        config = self.config
        prefix, patches = config.num_prefix_tokens, config.grid[0] * config.grid[1]
        row = self.positions.new_zeros(prefix + patches)
        first_tokens = slice(0, 1 if self.distillation_head is None else 2)
        row[{"class": first_tokens, "tokens": slice(None), "patches": slice(prefix, None)}[config.pooling]] = 1
        return row / row.sum()

    @property
    def draws(self) -> bool:
        """True if the forward pass of training draws random numbers, for dropout or stochastic depth."""
        config = self.config
        rates = (
            config.dropout,
            config.embedding_dropout,
            config.attention_dropout,
            config.head_dropout,
            config.drop_path,
        )
        return any(rates)

    @property
    def widest_bytes(self) -> int:
        """Bytes of the largest output of a layer, for one image."""
        config = self.config
        tokens = config.num_prefix_tokens + config.grid[0] * config.grid[1]
        return tokens * max(3 * config.width, config.mlp_width) * self.positions.element_size()

    @property
    def matrix_bytes(self) -> int:
        """Bytes of the largest matrix of a block."""
        config = self.config
        return config.width * max(3 * config.width, config.mlp_width) * self.positions.element_size()

    @property
    def no_decay(self) -> frozenset[str]:
        """Names of parameters with more than one dimension that get no weight decay."""
        return frozenset({"class_token", "distillation_token", "registers", "positions"})

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter: 0 for the embedding, 1..depth for the blocks, depth + 1 for the rest."""
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        return (
            0
            if name.startswith(("patch_embedding.", "input_norm.")) or name in self.no_decay
            else self.config.depth + 1
        )

    def is_head(self, name: str) -> bool:
        """Tell whether a parameter belongs to a classifier."""
        return name.startswith(("head.", "distillation_head."))

    def train(self, mode: bool = True) -> "VisionTransformer":  # noqa: FBT001, FBT002 - as in torch
        """Set training or evaluation mode; frozen modules stay in evaluation mode, with their dropout off."""
        super().train(mode)
        if mode:
            for module in self.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    module.eval()
            self.dropout.train(self.patch_embedding.training)
        return self

    def _grid_of(self, images: Tensor) -> Size:
        """Return the rows and columns of patches of the images."""
        height, width = self.config.patch_size
        return images.shape[-2] // height, images.shape[-1] // width

    def _positions_for(self, images: Tensor) -> Tensor:
        """Return the position embedding for the patch grid of the images."""
        (rows, columns), grid = self.config.grid, self._grid_of(images)
        if grid == (rows, columns):
            return self.positions
        split = self.positions.shape[1] - rows * columns
        patches = resampling((rows, columns), grid, self.positions.device) @ self.positions[:, split:]
        return torch.cat([self.positions[:, :split], patches], dim=1)

    def _through(self, block: nn.Module, *given: Any) -> Tensor:
        """Run tokens through a block; gradient checkpointing (Chen et al. 2016) repeats it with the same draws."""
        recomputes = self.grad_checkpointing and self.training and torch.is_grad_enabled()
        output: Tensor = checkpoint(block, *given, use_reentrant=False) if recomputes else block(*given)
        return output

    def _add_positions(self) -> None:
        config = self.config
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(1, config.num_positions, config.width))
            return
        fixed = sincos_positions(config.grid, config.width)
        fixed = nn.functional.pad(fixed, (0, 0, config.num_positions - fixed.shape[1], 0))
        self.register_buffer("positions", fixed, persistent=False)

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw the initial weights; norms start as the identity.

        timm and torchvision truncate the distribution at 2, which has no effect at a standard deviation of 0.02. A
        truncated one is not used, because PyTorch 2.11 draws it in another way than newer releases, and a seed should
        mean the same with all of them.
        """
        config = self.config
        if config.init == "normal":
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    nn.init.normal_(module.weight, std=config.init_std)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            nn.init.normal_(self.patch_embedding.projection.weight, std=config.patch_init_std)
        elif config.init == "torch-encoder":  # torch's encoder copies one layer
            first = self.blocks[0]
            assert isinstance(first, Block)
            first.attention.initialise_as_torch()
            for block in self.blocks[1:]:
                block.load_state_dict(first.state_dict())
        for token in (self.class_token, self.distillation_token, self.registers, self.positions):
            if isinstance(token, nn.Parameter):
                self._initialise_embedding(token)

    def _initialise_embedding(self, embedding: nn.Parameter) -> None:
        """Draw the initial values of a token, or of the positions; they are made as zeros."""
        kind = self.config.embedding_init
        if kind == "normal":
            nn.init.normal_(embedding, std=self.config.init_std)
        elif kind == "unit" and embedding is self.positions:
            nn.init.uniform_(embedding)
        elif kind == "unit":
            nn.init.normal_(embedding)


def mean_logits(head: nn.Module, distillation_head: nn.Module | None, features: Tensor) -> Tensor:
    """Compute logits (B, classes) from features: (B, D) with one head, (B, 2, D) with two, whose mean is returned."""
    logits: Tensor = head(features if distillation_head is None else features[:, 0])
    return logits if distillation_head is None else (logits + distillation_head(features[:, 1])) / 2


def _tokens(count: int, width: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(1, count, width)) if count else None
