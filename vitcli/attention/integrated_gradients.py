"""Integrated gradients: the change of the score, shared out over the pixels."""

from torch import Tensor
from torch.nn import functional as F

from vitcli.attention.evidence import Evidence, Options


def integrated_gradients(evidence: Evidence, _options: Options) -> Tensor:
    """(x - x0) times the mean gradient from x0 to x, summed per patch: signed, (B, N), 0 on prefix tokens.

    The more steps the mean is made of, the closer the sum comes to y(x) - y(x0).
    Source: Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks".
    """
    assert evidence.pixels is not None
    assert evidence.pixel_gradients is not None
    shares = (evidence.pixels * evidence.pixel_gradients).sum(dim=1)  # (B, H, W)
    (rows, columns), (height, width) = evidence.grid, shares.shape[1:]
    patches = shares.view(-1, rows, height // rows, columns, width // columns).sum(dim=(2, 4)).flatten(1)
    return F.pad(patches, (evidence.num_prefix_tokens, 0))
