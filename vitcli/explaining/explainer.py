"""Explanation of a batch of images: one recorded forward pass, and only the gradients that the methods need.

For gradients, the forward pass keeps only the tokens that enter each block. The backward pass computes one block at a
time again (Chen et al. 2016), and keeps the relevance of its attention fused over heads. Everything is computed in
float32, whatever precision the model was trained in.

Shapes: B images, T target classes, N tokens, h x w patch grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.attention.evidence import Evidence
from vitcli.attention.fusion import fuse_heads, fused_relevance, patch_map, sink_share
from vitcli.attention.registry import METHODS, Needs
from vitcli.attention.targets import class_indices, class_scores
from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.registry import load_object
from vitcli.explaining.question import Question
from vitcli.models.capture import capture_attention, capture_tokens
from vitcli.models.vit import VisionTransformer

_PATH_BATCH = 16
"""Images per forward pass of integrated gradients."""
_BATCH = 8
_BATCH_BYTES = 2**29
"""Memory for attention probabilities and tensors computed from them; if they are large, batches have fewer images."""


def images_at_once(config: ModelConfig) -> int:
    """Compute how many images to give to one ``Explainer``."""
    tokens = config.grid[0] * config.grid[1] + config.num_prefix_tokens
    return min(max(_BATCH_BYTES // (12 * tokens**2 * config.num_heads * config.depth), 1), _BATCH)


class Explainer:
    """The explanation of one batch of images; its maps are computed on demand.

    Args:
        model: the model, in evaluation mode; it is not changed.
        images: the model's input, (B, C, H, W), on the model's device.
        question: the question, already checked.
        seeds: one random seed per image, for noise.
    """

    def __init__(
        self, model: VisionTransformer, images: Tensor, question: Question, *, seeds: Sequence[int] = ()
    ) -> None:
        self.model = model
        self.images = images
        self.question = question
        self._seeds = tuple(seeds) or tuple(range(len(images)))
        self._depth = model.config.depth
        self._num_read = model.num_read
        self._row = model.pooling_row()
        if question.query is not None:
            self._row = torch.zeros_like(self._row)
            self._row[model.config.num_prefix_tokens + question.query] = 1
        self.probabilities: Mapping[int, Tensor] = {}
        """layer -> A_l, (B, H, N, N), for the layers whose attention itself is needed."""
        self._entering: dict[int, Tensor] = {}
        """layer -> the tokens that enter the block, (B, N, D), for the blocks that gradients pass through; number of
        layers -> the output of the last block."""
        with self._computing(gradients=False):
            logits = self._watched_forward()
        if not logits.isfinite().all():
            raise ModelError(
                f"the model returns NaN or infinity, in {logits.dtype}",
                hint="its training may have diverged; `vit runs` lists other runs",
            )
        self.logits = logits
        """The logits, (B, K)."""
        self.targets = class_indices(question.choices, self.logits) if self.logits.shape[1] else self.logits.long()
        """The target classes, (B, T)."""
        self._gradients: dict[int, _Gradients] = {}
        self._layer_gradients: dict[int, dict[int, Tensor]] = {}
        self._pixel_gradients: dict[int, Tensor] = {}

    def row(self, method: str, slot: int = 0, *, layers: Sequence[int] = ()) -> Tensor:
        """Compute the weight of each token, (B, N).

        Args:
            method: a method of the question.
            slot: the position of the target class in the question, 0..T-1.
            layers: the layers to use, from 0, a part of the question's layers; empty: all of them.
        """
        entry = METHODS[method]
        used = tuple(layers) or self.question.layers_of(method, self._depth)
        evidence = Evidence(
            seeds=self._seeds,
            grid=self.model.config.grid,
            num_prefix_tokens=self.model.config.num_prefix_tokens,
            pooling_row=self._row,
        )
        match entry.needs:
            case "attention":
                chosen = [self._heads(self.probabilities[layer]) for layer in used]
                evidence = replace(evidence, probabilities=chosen)
            case "gradients":
                relevances = self._backward(slot).relevances
                evidence = replace(evidence, relevances=[relevances[layer] for layer in used])
            case "layer gradients":
                by_layer = self._layer_backward(slot)
                evidence = replace(evidence, layer_gradients=[by_layer[layer] for layer in used])
            case "tokens":
                found = self._backward(slot)
                evidence = replace(evidence, tokens=found.tokens, token_gradients=found.token_gradients)
            case "pixels":
                evidence = replace(evidence, pixels=self.images, pixel_gradients=self._path_gradients(slot))
            case "nothing":
                pass
            case _:
                assert_never(entry.needs)
        with self._computing(gradients=False):
            row: Tensor = load_object(entry.function)(evidence, self.question.options)
        return row

    def map(self, method: str, slot: int = 0, *, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Compute the weights of the patches, (B, h, w), and the share of the mass on prefix tokens, (B,)."""
        row, prefix = self.row(method, slot, layers=layers), self.model.config.num_prefix_tokens
        return patch_map(row, grid=self.model.config.grid, num_prefix_tokens=prefix), sink_share(row, prefix)

    def slots(self, method: str) -> range:
        """Return the positions of the target classes that a method has maps for: all, or only the first."""
        return range(self.targets.shape[1] if METHODS[method].chooses_class else 1)

    def _layers_for(self, *needs: Needs) -> set[int]:
        """Return the layers used by those methods of the question that have one of these needs."""
        methods = [name for name in self.question.methods if METHODS[name].needs in needs]
        return {layer for name in methods for layer in self.question.layers_of(name, self._depth)}

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers of the question, or all layers if it names none."""
        return self.question.layers or tuple(range(self._depth))

    def explanation(self) -> "Explanation":
        """Compute the maps of every method for every target class."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {method: [] for method in self.question.methods}
        for slot in range(max(self.targets.shape[1], 1)):  # because gradients are kept for one class
            for method, done in found.items():
                if slot in self.slots(method):
                    done.append(self.map(method, slot))
        maps = {method: torch.stack([weights for weights, _ in done], dim=1) for method, done in found.items()}
        shares = {method: torch.stack([share for _, share in done], dim=1) for method, done in found.items()}
        return Explanation(logits=self.logits, targets=self.targets, maps=maps, prefix_shares=shares)

    def attention(self, at: int) -> Tensor:
        """Return the attention probabilities of one image, for the question's layers and heads, (L, H, N, N)."""
        return torch.stack([self._heads(self.probabilities[layer])[at] for layer in self.layers])

    def head_maps(self) -> Tensor:
        """Compute the attention from the pooled tokens, or the question's patch, to patches: p A_l, (B, L, H, h, w)."""
        config = self.model.config
        with self._computing(gradients=False):
            rows = torch.stack([self._row @ self._heads(self.probabilities[layer]) for layer in self.layers], dim=1)
        maps: Tensor = rows[..., config.num_prefix_tokens :].unflatten(-1, config.grid)
        return maps

    @property
    def _token_layer(self) -> int:
        return max(self._layers_for("tokens"), default=self._depth)

    def _watched_forward(self) -> Tensor:
        watched = self._layers_for("attention") | set(self.layers if self.question.watches_all else ())
        lowest = min(self._layers_for("gradients", "layer gradients", "tokens"), default=self._depth + 1)
        with capture_attention(self.model, watched) as self.probabilities:
            tokens = self.model.embed(self.images)
            for layer in range(self._depth):
                if layer >= lowest:
                    self._entering[layer] = tokens
                tokens = self._through(layer, tokens, reads_all=layer in watched)
        if lowest <= self._depth:
            self._entering[self._depth] = tokens[:, : self._num_read]
        return self._classified(tokens)

    @contextmanager
    def _computing(self, *, gradients: bool = True) -> Iterator[None]:
        """Compute in float32 inside the block, with gradients for the recorded tensors but not for the weights."""
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        exact = torch.autocast(self.images.device.type, enabled=False)
        try:
            for parameter in learning:
                parameter.requires_grad = False
            with exact, torch.inference_mode(mode=False), torch.set_grad_enabled(gradients):
                yield
        finally:
            for parameter in learning:
                parameter.requires_grad = True

    def _heads(self, matrices: Tensor) -> Tensor:
        return matrices[:, list(self.question.heads)] if self.question.heads else matrices

    def _score(self, logits: Tensor, slot: int) -> Tensor:
        """Sum the target class's score over images; each depends on one image only, and images may be repeated."""
        indices = self.targets[:, slot].repeat(len(logits) // len(self.targets))
        return class_scores(logits, indices, self.question.score).sum()

    def _backward(self, slot: int) -> "_Gradients":
        """Compute dy / dA and dy / d tokens, from the last block down to the lowest one that is needed."""
        if slot not in self._gradients:
            watched, found = self._layers_for("gradients"), _Gradients()
            with self._computing():
                leaving = self._entering[self._depth].detach().requires_grad_()
                (slope,) = torch.autograd.grad(self._score(self._classified(leaving), slot), leaving)
                lowest = min(watched | {self._token_layer})
                for layer in reversed(range(lowest, self._depth)):
                    entering = self._entering[layer].detach().requires_grad_(layer > lowest)
                    with (
                        capture_attention(self.model, watched & {layer}) as attention,
                        capture_tokens(self.model, layer) as tokens,
                    ):
                        leaving = self._through(layer, entering)
                    wanted = [tokens[layer], *attention.values(), *([entering] if layer > lowest else ())]
                    product = (leaving * slope).sum()  # given slopes as grad_outputs, torch would import sympy
                    gradients = torch.autograd.grad(product, wanted)
                    if attention:
                        pair = self._heads(gradients[1]), self._heads(attention[layer].detach())
                        relevance = fused_relevance(*pair, self.question.options.fusion)
                        found.relevances[layer] = _square(relevance)
                    if layer == self._token_layer:
                        found.tokens, found.token_gradients = tokens[layer].detach(), gradients[0]
                    slope = gradients[-1]  # the gradient of the block's input, except in the lowest layer
            self._gradients = {slot: found}  # keeps one class at a time, to save memory
        return self._gradients[slot]

    def _layer_backward(self, slot: int) -> Mapping[int, Tensor]:
        """Compute (ds_l / dA_l)+ of every layer that is needed, fused over heads, (B, N, N)."""
        if slot not in self._layer_gradients:
            found: dict[int, Tensor] = {}
            with self._computing():
                for layer in self._layers_for("layer gradients"):
                    with capture_attention(self.model, [layer]) as seen:
                        leaving = self._through(layer, self._entering[layer])
                    score = self._score(self._classified(leaving), slot)
                    (gradient,) = torch.autograd.grad(score, [seen[layer]])
                    found[layer] = _square(fuse_heads(self._heads(gradient).relu(), self.question.options.fusion))
            self._layer_gradients = {slot: found}
        return self._layer_gradients[slot]

    def _through(self, layer: int, tokens: Tensor, *, reads_all: bool = False) -> Tensor:
        """Run tokens through a block; the last block returns only the tokens that the model reads, (B, n, D)."""
        is_last = layer == self._depth - 1
        num_read = self._num_read if is_last and not reads_all else None
        output: Tensor = self.model.blocks[layer](tokens, self.model.config.grid, num_read)
        return output

    def _classified(self, tokens: Tensor) -> Tensor:
        """Compute the logits from the tokens that leave a block."""
        return self.model.classify(self.model.pool(tokens))

    def _path_gradients(self, slot: int) -> Tensor:
        """Compute the mean of dy / dx at the middles of equal steps from an input of zeros to the image, (B, C, H, W)."""
        if slot not in self._pixel_gradients:
            steps = self.question.steps
            middles = (torch.arange(steps, device=self.images.device) + 0.5) / steps
            total = torch.zeros_like(self.images)
            for some in middles.split(max(_PATH_BATCH // len(self.images), 1)):
                with self._computing():
                    points = (some[:, None, None, None, None] * self.images).flatten(0, 1).requires_grad_()
                    (gradient,) = torch.autograd.grad(self._score(self.model(points), slot), points)
                total += gradient.view(len(some), *self.images.shape).sum(dim=0)
            self._pixel_gradients = {slot: total / steps}
        return self._pixel_gradients[slot]


def _square(rows: Tensor) -> Tensor:
    """Pad rows to a square matrix, (B, n, N) -> (B, N, N): the gradients of tokens that have no effect are 0."""
    return F.pad(rows, (0, 0, 0, rows.shape[2] - rows.shape[1]))


@dataclass(slots=True)
class _Gradients:
    """The gradients of a class's score y."""

    relevances: dict[int, Tensor] = field(default_factory=dict)
    """layer -> (dy / dA_l * A_l)+, fused over heads, (B, N, N)."""
    tokens: Tensor | None = None
    """The tokens that enter the attention of the layer that CAM methods use, (B, N, D)."""
    token_gradients: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """The maps of a batch of images."""

    logits: Tensor
    """The logits, (B, K)."""
    targets: Tensor
    """The target classes, (B, T)."""
    maps: Mapping[str, Tensor]
    """method -> maps, (B, T, h, w), or (B, 1, h, w) if the method does not depend on the class."""
    prefix_shares: Mapping[str, Tensor]
    """method -> the share of the mass on class and register tokens, (B, T) or (B, 1)."""


def explain(
    model: VisionTransformer,
    images: Tensor,
    question: Question,
    *,
    seeds: Sequence[int] = (),
    targets: Tensor | None = None,
) -> Explanation:
    """Compute the maps of a batch of images, for every method and target class.

    Args:
        model: the model, in evaluation mode.
        images: the model's input, (B, C, H, W), on the model's device.
        question: the methods, target classes and options.
        seeds: one random seed per image, for noise.
        targets: the classes to explain, (B, T); None: those that the question chooses.

    Raises:
        UsageError, ModelError: the question does not suit the model.
    """
    explainer = Explainer(model, images, question.checked(model), seeds=seeds)
    if targets is not None:
        explainer.targets = targets.to(explainer.targets)
    return explainer.explanation()
