"""Formatting of numbers, times and settings for people."""

import json
from collections.abc import Sequence

UNKNOWN_LICENCE = "not known"
"""The licence of weights and data sets that no table lists."""


def percent(share: float) -> str:
    """Format a share in 0..1 as ``98.33 %``."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Format seconds as ``3.1 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def written(value: object) -> str:
    """Write a value of a setting as ``--set`` takes it; ``-``: there is no value."""
    return value if isinstance(value, str) and value else "-" if value is None else json.dumps(value)


def averaged(models: int) -> str:
    """Say how many models were averaged; empty: it is a single one."""
    return f"mean probabilities of {models:,} models" if models > 1 else ""


def evaluation_in_words(name: str) -> str:
    """Name the images of an evaluation, as in ``359 images of test``."""
    return "out-of-fold predictions" if name == "out-of-fold" else name


def out_of_fold_in_words(*, keeps_best: bool) -> str:
    """Say what had no part in an out-of-fold prediction; with the best epoch, that the image may have chosen it."""
    return f"each by the fold that was not trained on the image{', though it may have chosen its epoch' * keeps_best}"


def seen_in_training(models: Sequence[str], split: str, images: str) -> str:
    """Say which part images had in the training of models: those of ``train`` taught them, those of ``val`` chose epochs."""
    names = ", ".join(models)
    if split == "train":
        return f"{names} {'was' if len(models) == 1 else 'were'} trained on {images}"
    return f"{images} chose the epoch of {names}"


def percent_or_none(share: float | None) -> str:
    """Format a share in 0..1; ``-``: there is none."""
    return "-" if share is None else percent(share)


def interval(ends: tuple[float, float] | None) -> str:
    """Format the 95 % interval of a share as `` [97.21 % - 99.40 %]``, to stand behind it; empty: there is none."""
    return f" [{percent(ends[0])} - {percent(ends[1])}]" if ends else ""
