"""The temperature that makes the probabilities of a model as high as its share of right answers (Guo et al., 2017)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.calibration import Calibration, quantiles

_LEAST, _MOST = math.log(0.02), math.log(50.0)
_STEPS = 60


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


def is_at_an_end(temperature: float) -> bool:
    """Tell whether a temperature is one of the ends of the range that is searched."""
    return min(math.log(temperature) - _LEAST, _MOST - math.log(temperature)) < 1e-3
