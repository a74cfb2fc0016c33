"""Nearest neighbours of images by the cosine similarity of their features: near-duplicates and outliers.

Shapes: N images, D features, k neighbours.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.data.raw import Labels

NEIGHBOURS = 10
"""Number of neighbours of an image, whose mean distance tells how unusual it is."""
ALL_PAIRS = 20_000
"""Number of images up to which every pair is compared."""
_PROBED = 16
"""Number of cells that are searched for the neighbours of a cell's images, itself included."""
_SAMPLE, _ROUNDS = 64, 8
"""Images per cell that place the centres of cells, and rounds of k-means."""
_ROWS = 1024
"""Images whose similarities are computed at once."""
_CHECKED = 200
"""Number of images whose neighbours are searched among all, to measure how many were found."""
_NEAR = 0.1
"""Distance of near-duplicates relative to the median distance of an image to its nearest neighbour, at most."""
_EQUAL = 1e-5
"""Distances up to this are equal features, apart from rounding."""
_FAR_OUT = 3.0
"""Distance beyond the upper quartile, in interquartile ranges, from which a value is far out (Tukey 1977)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The nearest neighbours of every image, the nearest first."""

    images: NDArray[np.int64]
    """Their indices, (N, k)."""
    distances: NDArray[np.float32]
    """Cosine distances, 1 - cosine similarity, 0..2, (N, k)."""
    found: float
    """Share of the true neighbours that the search found, 0..1, measured on a sample; 1: every pair was compared."""


def directions(features: Tensor) -> Tensor:
    """Subtract the mean of all features, and scale each image's to length 1; ``features``, (N, D), is changed."""
    features -= features.mean(dim=0)
    features /= features.norm(dim=1, keepdim=True).clamp(min=torch.finfo(features.dtype).tiny)
    return features


@torch.inference_mode()
def nearest(
    features: Tensor, *, count: int = NEIGHBOURS, all_pairs: int = ALL_PAIRS, emit: Emit = ignore
) -> Neighbours:
    """Find the nearest neighbours of every image.

    Up to ``all_pairs`` images, every pair is compared. More are sorted into about sqrt(N) cells by spherical k-means,
    and the neighbours of a cell's images are searched in the nearest cells only (inverted file: Jégou, Douze & Schmid
    2011, "Product quantization for nearest neighbor search"). Memory is bounded: blocks of similarities are computed.

    Args:
        features: features of length 1, float32, (N, D).
        count: the number of neighbours k; fewer if there are fewer other images.
        all_pairs: the number of images up to which every pair is compared.
        emit: receives the progress.
    """
    total = len(features)
    count = min(count, total - 1)
    task, done = "comparing images", 0
    emit(TaskProgress(task=task, done=0, total=total))
    images, distances = torch.empty(total, count, dtype=torch.int64), torch.empty(total, count)
    centres = features[:1] if total <= all_pairs else _centres(features)
    cell = torch.cat([(part @ centres.T).argmax(dim=1) for part in features.split(_ROWS)])
    members = [torch.from_numpy(each) for each in _members(cell.numpy(), len(centres))]
    probed = (centres @ centres.T).topk(min(_PROBED, len(centres)), dim=1).indices
    for at, (own, cells) in enumerate(zip(members, probed.tolist(), strict=True)):
        if not len(own):
            continue
        candidates = torch.cat([own, *(members[each] for each in cells if each != at)])
        known = features[candidates]
        for start in range(0, len(own), _ROWS):
            rows = own[start : start + _ROWS]
            similar = features[rows] @ known.T
            similar.diagonal(start).fill_(-torch.inf)  # an image is not its own neighbour
            best = similar.topk(min(count, len(candidates) - 1), dim=1)
            width = best.values.shape[1]
            images[rows, :width], distances[rows, :width] = candidates[best.indices], 1 - best.values
            images[rows, width:], distances[rows, width:] = rows[:, None], torch.inf
            done += len(rows)
            emit(TaskProgress(task=task, done=done, total=total))
    found = 1.0 if len(centres) == 1 else _share_found(features, images)
    return Neighbours(images=images.numpy(), distances=distances.clamp(min=0).numpy(), found=found)


def _centres(features: Tensor) -> Tensor:
    """Place the centres of about sqrt(N) cells by spherical k-means on a sample."""
    generator = torch.Generator().manual_seed(0)
    cells = round(len(features) ** 0.5)
    sample = features[torch.randperm(len(features), generator=generator)[: cells * _SAMPLE]]
    centres = sample[:cells].clone()
    for _ in range(_ROUNDS):
        nearest_one = torch.cat([(part @ centres.T).argmax(dim=1) for part in sample.split(_ROWS)])
        sums = torch.zeros_like(centres).index_add_(0, nearest_one, sample)
        lengths = sums.norm(dim=1, keepdim=True)
        centres = torch.where(lengths > 0, sums / lengths.clamp(min=1e-12), centres)
    return centres


def _members(cell: NDArray[np.int64], cells: int) -> list[NDArray[np.int64]]:
    """List the images of every cell."""
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.searchsorted(cell[order], np.arange(1, cells)))


def _share_found(features: Tensor, images: Tensor) -> float:
    """Measure on a sample how many of the true neighbours were found."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(features), generator=generator)[:_CHECKED]
    similar = features[rows] @ features.T
    similar[torch.arange(len(rows)), rows] = -torch.inf
    true = similar.topk(images.shape[1], dim=1).indices
    return float((true[:, :, None] == images[rows][:, None]).any(dim=2).float().mean())


def near_distance(neighbours: Neighbours) -> float:
    """Choose the distance up to which images are near-duplicates: a tenth of the median to the nearest neighbour."""
    return max(_NEAR * float(np.median(neighbours.distances[:, 0])), _EQUAL)


def groups_within(neighbours: Neighbours, distance: float) -> list[NDArray[np.int64]]:
    """Group images that are within a distance of each other, directly or by way of others; the nearest group first."""
    parent = list(range(len(neighbours.images)))

    def first(at: int) -> int:
        while parent[at] != at:
            parent[at] = at = parent[parent[at]]
        return at

    for row, place in np.argwhere(neighbours.distances <= distance).tolist():
        one, other = sorted((first(row), first(int(neighbours.images[row, place]))))
        parent[other] = one
    joined: dict[int, list[int]] = {}
    for at in np.flatnonzero(neighbours.distances[:, 0] <= distance).tolist():
        joined.setdefault(first(at), []).append(at)
    groups = [np.array(each) for each in joined.values()]
    return sorted(groups, key=lambda each: float(neighbours.distances[each, 0].min()))


def first_of_group(groups: list[NDArray[np.int64]], total: int) -> Labels:
    """Return, for every image, the index of the first image of its group, (N,): mostly its own index."""
    first = np.arange(total)
    for group in groups:
        first[group] = group.min()
    return first


def find_outliers(neighbours: Neighbours) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the images that are far from all others, and return their indices and distances, the farthest first.

    The distance of an image is the mean to its k nearest neighbours (Angiulli & Pizzuti 2002, "Fast outlier detection in
    high dimensional spaces"). It is an outlier if that is far out among all distances: more than three interquartile
    ranges above the upper quartile (Tukey 1977).
    """
    finite = np.where(np.isfinite(neighbours.distances), neighbours.distances, 2.0)
    means = finite.mean(axis=1, dtype=np.float64)
    lower, upper = np.percentile(means, [25, 75])
    far = np.flatnonzero(means > upper + _FAR_OUT * (upper - lower))
    far = far[np.argsort(-means[far], kind="stable")]
    return far, means[far]
