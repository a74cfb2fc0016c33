"""Attribution methods by name: a table without torch."""

from dataclasses import dataclass

from vitcli.core.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodEntry:
    """One method: a function from attention probabilities and a pooling row to a weight per token."""

    summary: str
    function: str
    """``module:function``; it takes a list of (B, H, N, N), the row (N,) and a head fusion, and returns (B, N)."""
    layers: str
    """The layers that it uses where none are chosen: ``all`` or ``last``."""


METHODS: Registry[MethodEntry] = Registry(
    "method",
    {
        "raw": MethodEntry(
            summary="attention of the pooled tokens in the last layer (as in DINO)",
            function="vitcli.attention.raw:raw_attention",
            layers="last",
        ),
        "classic": MethodEntry(
            summary="attention of the pooled tokens, averaged over all layers",
            function="vitcli.attention.classic:classic_attention",
            layers="all",
        ),
        "rollout": MethodEntry(
            summary="attention followed through all layers and residuals (Abnar & Zuidema 2020)",
            function="vitcli.attention.rollout:attention_rollout",
            layers="all",
        ),
    },
    listing="vit attention-map --help",
)
