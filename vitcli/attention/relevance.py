"""Relevance: attention that speaks for a class, carried through the residuals.

Source: Chefer, Gur & Wolf 2021, "Generic attention-model explainability", the rule for self-attention.
"""

from torch import Tensor

from vitcli.attention.evidence import Evidence, Options


def relevance(evidence: Evidence, _options: Options) -> Tensor:
    """Return p prod_l (I + E_l) - p with E_l = (G_l * A_l)+, fused over heads, (B, N).

    p itself is taken off: with mean pooling it is the same for every patch and says nothing of them.
    """
    row = start = evidence.pooling_row.expand(evidence.relevances[0].shape[0], -1)
    for layer in reversed(evidence.relevances):
        row = row + (row[:, None] @ layer)[:, 0]
    return row - start
