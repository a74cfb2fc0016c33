"""Explain a batch of images: one forward pass, watched, and only the gradients that the methods need.

For gradients the forward pass keeps no more than the tokens that enter each block; on the way back, a block at a time is
computed once more (Chen et al. 2016), and what its attention says of the class is kept with heads fused. Everything is
computed in float32, whatever the model was trained in.

Shapes: B images, T classes asked for, N tokens, h x w patch grid.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

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
"""Images that integrated gradients take through the model at once."""
_BATCH = 8
_BATCH_BYTES = 2**29
"""Of attention probabilities and what is made of them: fewer images at once where they are large."""


def images_at_once(config: ModelConfig) -> int:
    """Compute how many images one ``Explainer`` should be given."""
    tokens = config.grid[0] * config.grid[1] + config.num_prefix_tokens
    return min(max(_BATCH_BYTES // (12 * tokens**2 * config.num_heads * config.depth), 1), _BATCH)


class Explainer:
    """One batch on its way through a model; maps of it are computed when they are asked for.

    Args:
        model: in evaluation mode; it is left as it was.
        images: what it sees, (B, C, H, W), on its device.
        question: checked.
        seeds: one per image, for noise.
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
        """layer -> A_l, (B, H, N, N); of the layers whose attention itself is wanted."""
        self._entering: dict[int, Tensor] = {}
        """layer -> the tokens that enter the block, (B, N, D); of those that gradients are carried through, and what leaves
        the last one."""
        with self._computing(gradients=False):
            logits = self._watched_forward()
        if not logits.isfinite().all():
            raise ModelError(f"the model answers with NaN or infinity, in {logits.dtype}", hint="explain it in float32")
        self.logits = logits
        """(B, K)."""
        self.targets = class_indices(question.choices, self.logits) if self.logits.shape[1] else self.logits.long()
        """The classes asked for, (B, T)."""
        self._gradients: dict[int, _Gradients] = {}
        self._layer_gradients: dict[int, dict[int, Tensor]] = {}
        self._pixel_gradients: dict[int, Tensor] = {}

    def row(self, method: str, slot: int = 0, *, layers: Sequence[int] = ()) -> Tensor:
        """A weight per token, (B, N).

        Args:
            method: one of the question's.
            slot: which of the classes asked for, 0..T-1.
            layers: fewer than were asked for, from 0.
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
        with self._computing(gradients=False):
            row: Tensor = load_object(entry.function)(evidence, self.question.options)
        return row

    def map(self, method: str, slot: int = 0, *, layers: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Weights of the patches, (B, h, w), and the share of the mass that rests on prefix tokens, (B,)."""
        row, prefix = self.row(method, slot, layers=layers), self.model.config.num_prefix_tokens
        return patch_map(row, grid=self.model.config.grid, num_prefix_tokens=prefix), sink_share(row, prefix)

    def slots(self, method: str) -> range:
        """The classes that a method answers for: all that were asked for, or just once."""
        return range(self.targets.shape[1] if METHODS[method].chooses_class else 1)

    def _layers_for(self, *needs: Needs) -> set[int]:
        """Layers that methods with these needs use."""
        methods = [name for name in self.question.methods if METHODS[name].needs in needs]
        return {layer for name in methods for layer in self.question.layers_of(name, self._depth)}

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that were asked for, else all."""
        return self.question.layers or tuple(range(self._depth))

    def explanation(self) -> "Explanation":
        """The maps of every method, for every class that was asked for."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {method: [] for method in self.question.methods}
        for slot in range(max(self.targets.shape[1], 1)):  # class by class, as gradients are kept
            for method, done in found.items():
                if slot in self.slots(method):
                    done.append(self.map(method, slot))
        maps = {method: torch.stack([weights for weights, _ in done], dim=1) for method, done in found.items()}
        shares = {method: torch.stack([share for _, share in done], dim=1) for method, done in found.items()}
        return Explanation(logits=self.logits, targets=self.targets, maps=maps, prefix_shares=shares)

    def attention(self, at: int) -> Tensor:
        """All probabilities of one image, of the layers and heads that were asked for, (L, H, N, N)."""
        return torch.stack([self._heads(self.probabilities[layer])[at] for layer in self.layers])

    def head_maps(self) -> Tensor:
        """Return what the pooled tokens, or the patch of the question, attend to: p A_l per head, (B, L, H, h, w)."""
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
        """In float32; and no weight wants a gradient: only what is watched does."""
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
        """The sum over images, each of which depends on itself alone; images may be there several times."""
        indices = self.targets[:, slot].repeat(len(logits) // len(self.targets))
        return class_scores(logits, indices, self.question.score).sum()

    def _backward(self, slot: int) -> "_Gradients":
        """Compute dy / dA and dy / d tokens, from the last block down to the lowest that is asked about."""
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
                    product = (leaving * slope).sum()  # to take slopes as they are, torch would import sympy
                    gradients = torch.autograd.grad(product, wanted)
                    if attention:
                        pair = self._heads(gradients[1]), self._heads(attention[layer].detach())
                        relevance = fused_relevance(*pair, self.question.options.fusion)
                        found.relevances[layer] = _square(relevance)
                    if layer == self._token_layer:
                        found.tokens, found.token_gradients = tokens[layer].detach(), gradients[0]
                    slope = gradients[-1]  # of what entered, but for the lowest layer
            self._gradients = {slot: found}  # of one class at a time
        return self._gradients[slot]

    def _layer_backward(self, slot: int) -> Mapping[int, Tensor]:
        """(ds_l / dA_l)+ of every layer, heads fused, (B, N, N)."""
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
        """The tokens that leave a block; of the last one only those that are read, (B, n, D), as the others have no effect."""
        is_last = layer == self._depth - 1
        output: Tensor = self.model.blocks[layer](tokens, self._num_read if is_last and not reads_all else None)
        return output

    def _classified(self, tokens: Tensor) -> Tensor:
        """The logits of tokens that leave a block."""
        return self.model.classify(self.model.pool(tokens))

    def _path_gradients(self, slot: int) -> Tensor:
        """The mean of dy / dx at the middles of equal steps from the mean colour (0) to the image, (B, C, H, W)."""
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
    """(B, n, N) -> (B, N, N): gradients of tokens that have no effect are 0."""
    return F.pad(rows, (0, 0, 0, rows.shape[2] - rows.shape[1]))


@dataclass(slots=True)
class _Gradients:
    """The gradients of a class's score y."""

    relevances: dict[int, Tensor] = field(default_factory=dict)
    """layer -> (dy / dA_l * A_l)+ with heads fused, (B, N, N)."""
    tokens: Tensor | None = None
    """What enters the attention of the layer that is asked about, (B, N, D)."""
    token_gradients: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Maps of a batch."""

    logits: Tensor
    """(B, K)."""
    targets: Tensor
    """The classes asked for, (B, T)."""
    maps: Mapping[str, Tensor]
    """method -> (B, T, h, w), or (B, 1, h, w) where it knows of no classes."""
    prefix_shares: Mapping[str, Tensor]
    """method -> the share of the mass that rests on class and register tokens, (B, T) or (B, 1)."""


def explain(model: VisionTransformer, images: Tensor, question: Question, *, seeds: Sequence[int] = ()) -> Explanation:
    """The maps of a batch, for every method and class that is asked for.

    Args:
        model: in evaluation mode.
        images: what it sees, (B, C, H, W), on its device.
        question: what is wanted.
        seeds: one per image, for noise.

    Raises:
        UsageError, ModelError: the question does not suit the model.
    """
    return Explainer(model, images, question.checked(model), seeds=seeds).explanation()
