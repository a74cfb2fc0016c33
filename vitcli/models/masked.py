"""Masked image modelling: a Vision Transformer learns from images alone, by predicting hidden patches from the others.

Sources: He et al. 2022, "Masked autoencoders are scalable vision learners", for what is predicted: the pixels of a patch,
normalised by their own mean and deviation; Xie et al. 2022, "SimMIM", for how: hidden patches enter the encoder as one
learned token, and a linear layer decodes each output token.

Shapes: B images, C channels, P patches, N tokens, D width, K = pixels of a patch in all channels.
"""

import torch
from torch import Tensor, nn

from vitcli.models.layers import cut_patches
from vitcli.models.vit import VisionTransformer

_FLAT = 0.01
"""Added to the variance of the pixels of a patch, whose mean over a data set is about 1: the noise of a flat patch is not
blown up."""


class MaskedModel(nn.Module):
    """A model and what it needs to predict hidden patches: images (B, C, H, W) and what is hidden -> losses (B,).

    Args:
        model: the model, which is trained in place; its final norm and its head are not used.
    """

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        config = model.config
        pixels = config.patch_size[0] * config.patch_size[1] * config.in_channels
        self.model = model
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.decoder_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.decoder = nn.Linear(config.width, pixels)
        for weight in (self.mask_token, self.decoder.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Compute the loss of each image, (B,): the mean squared error of the pixels of hidden patches.

        Args:
            images: the images, (B, C, H, W).
            hidden: True where a patch is hidden from the model, (B, P).
        """
        errors = (self.predict(images, hidden) - self.targets(images)[0]).square().mean(dim=2)
        return (errors * hidden).sum(dim=1) / hidden.sum(dim=1)

    def predict(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Predict the normalised pixels of all patches, (B, P, K)."""
        embedded: Tensor = self.model.patch_embedding(images)
        visible = torch.where(hidden[:, :, None], self.mask_token.to(embedded.dtype), embedded)
        tokens = self.model.encode(self.model.with_positions(visible, images), images)
        predicted: Tensor = self.decoder(self.decoder_norm(tokens[:, self.model.config.num_prefix_tokens :]))
        return predicted.to(torch.promote_types(predicted.dtype, torch.float32))

    def targets(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised pixels of each patch, (B, P, K), and its mean and deviation, (B, P, 1)."""
        pixels = cut_patches(images, self.model.config.patch_size).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        mean, deviation = (
            pixels.mean(dim=2, keepdim=True),
            (pixels.var(dim=2, correction=0, keepdim=True) + _FLAT).sqrt(),
        )
        return (pixels - mean) / deviation, mean, deviation

    @torch.no_grad()
    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """Return the images (B, C, H, W) with hidden patches as predicted; their means and deviations are the true ones."""
        normalised, mean, deviation = self.targets(images)
        patches = torch.where(hidden[:, :, None], self.predict(images, hidden), normalised) * deviation + mean
        (rows, columns), (height, width) = self.model.config.grid, self.model.config.patch_size
        pixels: Tensor = patches.view(len(images), rows, columns, height, width, -1)
        return pixels.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)

    @property
    def draws(self) -> bool:
        """True if the forward pass of training draws random numbers."""
        return self.model.draws

    @property
    def widest_bytes(self) -> int:
        """The same as the model's."""
        return self.model.widest_bytes

    @property
    def matrix_bytes(self) -> int:
        """The same as the model's."""
        return self.model.matrix_bytes

    @property
    def no_decay(self) -> frozenset[str]:
        """Names of parameters with more than one dimension that get no weight decay."""
        return frozenset({"mask_token", *(f"{_MODEL}{name}" for name in self.model.no_decay)})

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter, as ``VisionTransformer.layer_of``; the decoder is above all blocks."""
        if name.startswith(_MODEL):
            return self.model.layer_of(name.removeprefix(_MODEL))
        return 0 if name == "mask_token" else self.model.config.depth + 1

    def is_head(self, name: str) -> bool:
        """Tell whether a parameter belongs to the decoder."""
        return name.startswith("decoder")


_MODEL = "model."
"""The beginning of the names of the model's own weights."""


def hidden_patches(images: int, generator: torch.Generator, *, patches: int, share: float) -> Tensor:
    """Draw the patches to hide: the same number in each image, at least one and not all, (images, patches)."""
    count = min(max(round(share * patches), 1), patches - 1)
    ranks = torch.rand(images, patches, generator=generator).argsort(dim=1).argsort(dim=1)
    return ranks < count
