"""Measure what `vit check-labels` computes from features: time, peak memory, and how much of what is planted it finds.

    uv run python benchmarks/check_labels.py

The features are random: 100,000 images of 384 features, in 10 classes that overlap. One label in twenty is another one,
and one image in a hundred is a near-copy of another. Neighbours, near-duplicates, outliers, five logistic regressions
and label errors are computed as the command does it, on two threads. Computing the features is not included.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from vitcli.core.events import ignore
from vitcli.judging.frozen_probe import cross_validated
from vitcli.judging.label_errors import find_label_errors, label_margins
from vitcli.judging.neighbours import directions, find_outliers, first_of_group, groups_within, near_distance, nearest

SPREAD, NOISE, COPY = 0.4, 0.3, 0.02
"""Standard deviations of a class along its own 24 directions, of all features, and of a copy."""
PART = 5000


def draw(images: int, width: int, classes: int) -> tuple[torch.Tensor, np.ndarray, list[tuple[int, int]]]:
    """Draw features, the true classes, and pairs of near-copies."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.8 * torch.randn(classes, width, generator=generator)
    bases = torch.randn(classes, 24, width, generator=generator)
    truth = torch.randint(classes, (images,), generator=generator)
    features = torch.empty(images, width)
    for kinds, part in zip(truth.split(PART), features.split(PART), strict=True):
        own = torch.einsum("nd,ndw->nw", SPREAD * torch.randn(len(kinds), 24, generator=generator), bases[kinds])
        part.copy_(centres[kinds] + own + NOISE * torch.randn(len(kinds), width, generator=generator))
    chosen = torch.randperm(images, generator=generator)[: images // 50].view(2, -1)
    features[chosen[1]] = features[chosen[0]] + COPY * torch.randn(chosen.shape[1], width, generator=generator)
    truth[chosen[1]] = truth[chosen[0]]
    return features, truth.numpy(), [(min(pair), max(pair)) for pair in chosen.T.tolist()]


def peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds that the block takes, and the peak memory so far."""
    started = time.perf_counter()
    yield
    print(f"{what:22} {time.perf_counter() - started:6.1f} s, peak {peak():5.0f} MB", flush=True)


def main() -> None:
    """Time every step, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    features, truth, copies = draw(arguments.images, arguments.features, arguments.classes)
    random = np.random.default_rng(0)
    is_flipped = random.random(len(truth)) < 0.05
    labels = np.where(
        is_flipped, (truth + random.integers(1, arguments.classes, len(truth))) % arguments.classes, truth
    )
    print(f"{arguments.images:,} images, {arguments.features} features, peak {peak():.0f} MB before", flush=True)
    started = time.perf_counter()
    with timed("neighbours"):
        neighbours = nearest(directions(features))
    with timed("groups and outliers"):
        groups = groups_within(neighbours, near_distance(neighbours))
        outliers, _ = find_outliers(neighbours)
    with timed("logistic regressions"):
        first = first_of_group(groups, len(labels))
        names = tuple(map(str, range(arguments.classes)))
        probabilities = cross_validated(features, labels, names, first=first, emit=ignore)
    with timed("label errors"):
        errors = find_label_errors(probabilities, labels)
    print(f"{'all':22} {time.perf_counter() - started:6.1f} s, peak {peak():5.0f} MB")
    found = {tuple(each.tolist()) for each in groups}
    print(f"{neighbours.found:.1%} of the true neighbours, {len(found & {*copies}):,} of {len(copies):,} copies")
    print(f"{len(groups):,} groups, {len(outliers):,} outliers")
    right = is_flipped[errors.images]
    print(
        f"label errors: AUROC {roc_auc_score(is_flipped, -label_margins(probabilities, labels)):.4f}, "
        f"{right.mean():.1%} of {len(right):,} candidates, {right.sum() / is_flipped.sum():.1%} of all flips"
    )


if __name__ == "__main__":
    main()
