"""The temperature that makes the probabilities of a model as high as its share of right answers (Guo et al., 2017)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.calibration import Calibration, quantiles
from vitcli.core.errors import counted

_LEAST, _MOST = math.log(0.02), math.log(50.0)
_STEPS = 60
_NEAR = 1e-3
"""The distance from an end of the range, in the logarithm, within which a temperature counts as that end."""
_FEW = 100
"""Images below which a temperature is uncertain."""


def fit_temperature(logits: Tensor, truth: Tensor) -> float:
    """Find the temperature with the smallest cross-entropy.

    The true classes get slightly less than all probability, as in Platt (1999): else a model that is right on every
    image would get a temperature of 0.

    Args:
        logits: (N, classes), two classes or more.
        truth: true classes, int64, (N,).
    """
    (count, classes), exact = logits.shape, logits.double()
    smoothing = classes / (classes - 1) / (count + 2)  # the true class gets (N + 1) / (N + 2)

    def loss(log: float) -> float:
        return float(F.cross_entropy(exact * math.exp(-log), truth, label_smoothing=min(smoothing, 1.0)))

    # The loss has one minimum: golden-section search (Kiefer, 1953)
    low, high, ratio = _LEAST, _MOST, (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    of_left, of_right = loss(left), loss(right)
    for _ in range(_STEPS):
        if of_left <= of_right:
            high, right, of_right = right, left, of_left
            left = high - ratio * (high - low)
            of_left = loss(left)
        else:
            low, left, of_left = left, right, of_right
            right = low + ratio * (high - low)
            of_right = loss(right)
        if high - low < 1e-4:
            break
    return math.exp((low + high) / 2)


def calibration_by(logits: Tensor, truth: Tensor) -> Calibration:
    """Calibrate a model on validation images: logits, (N, classes), and true classes, (N,)."""
    temperature = fit_temperature(logits, truth)
    probabilities = (logits.double() / temperature).softmax(dim=1)
    doubt = 1 - probabilities[torch.arange(len(truth)), truth]
    return Calibration(
        temperature=temperature,
        confidence=quantiles(probabilities.amax(dim=1).tolist()),
        doubt=quantiles(doubt.tolist()),
    )


def doubt_about(temperature: float, images: int) -> str:
    """Say why a temperature that was fitted on so many images is uncertain, and what to try; empty: it is not."""
    log = math.log(temperature)
    if _MOST - log < _NEAR:
        return (
            f"the temperature {temperature:.3g} is the highest that is tried: the model knows little, so train longer"
        )
    if log - _LEAST < _NEAR:
        return (
            f"the temperature {temperature:.3g} is the lowest that is tried: the logits are very small, so train longer"
        )
    if images < _FEW:
        few = counted(images, "validation image")
        return f"only {few} fitted the temperature, so it is uncertain: a larger --val-fraction in training gives more"
    return ""
