"""Class activation maps of the tokens that enter the last layer's attention.

Behind that layer it would be too late: with a class token, the patches there have no influence any more.
"""

from torch import Tensor

from vitcli.attention.evidence import Evidence, Options


def grad_cam(evidence: Evidence, _options: Options) -> Tensor:
    """(sum_c mean_i(g_ic) F_ic)+, the mean over patches: (B, N).

    Source: Selvaraju et al. 2017, "Grad-CAM".
    """
    assert evidence.tokens is not None
    assert evidence.token_gradients is not None
    weights = evidence.token_gradients[:, evidence.num_prefix_tokens :].mean(dim=1)  # (B, D)
    return (evidence.tokens @ weights[:, :, None])[..., 0].relu()


def hires_cam(evidence: Evidence, _options: Options) -> Tensor:
    """(sum_c g_ic F_ic)+: (B, N).

    Source: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM".
    """
    assert evidence.tokens is not None
    assert evidence.token_gradients is not None
    return (evidence.tokens * evidence.token_gradients).sum(dim=2).relu()
