"""LeGrad: how the score of each layer's tokens would grow with its attention."""

import torch
from torch import Tensor

from vitcli.attention.evidence import Evidence, Options


def legrad(evidence: Evidence, _options: Options) -> Tensor:
    """The sum over layers of the mean over heads and query rows of (ds_l / dA_l)+, (B, N).

    Source: Bousselham et al. 2024, "LeGrad: an explainability method for vision transformers".
    """
    return torch.stack([layer.mean(dim=1) for layer in evidence.layer_gradients]).sum(dim=0)
