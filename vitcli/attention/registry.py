"""The table of attribution methods by name; it does not import torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.registry import Registry

Needs = Literal["nothing", "attention", "gradients", "layer gradients", "tokens", "pixels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodEntry:
    """An attribution method: a function from ``Evidence`` and ``Options`` to a weight per token, (B, N)."""

    summary: str
    function: str
    """The function, as ``module:function``."""
    needs: Needs
    """The part of the evidence that the method reads besides the pooling row."""
    layers: Literal["all", "last", "none"] = "all"
    """The layers that the method uses by default; ``none``: it does not use the attention of layers."""
    is_signed: bool = False
    """True: weights can be negative, which counts against the class."""
    unit: str = ""
    """The meaning of a patch's weight, in a few words; empty: it has no simple meaning."""

    @property
    def chooses_class(self) -> bool:
        """Tell whether the map depends on the target class."""
        return self.needs not in {"nothing", "attention"}

    @property
    def looks_at_layers(self) -> bool:
        """Tell whether the method can explain the attention of a single layer."""
        return self.needs in {"attention", "gradients", "layer gradients"}


METHODS: Registry[MethodEntry] = Registry(
    "method",
    {
        "relevance": MethodEntry(
            summary="attention that supports the class, through all layers (Chefer et al. 2021)",
            function="vitcli.attention.methods:relevance",
            needs="gradients",
        ),
        "raw": MethodEntry(
            summary="attention of the pooled tokens in the last layer (as in DINO)",
            function="vitcli.attention.methods:raw_attention",
            needs="attention",
            layers="last",
            unit="share of attention per patch",
        ),
        "classic": MethodEntry(
            summary="attention of the pooled tokens, averaged over all layers",
            function="vitcli.attention.methods:classic_attention",
            needs="attention",
            unit="share of attention per patch",
        ),
        "rollout": MethodEntry(
            summary="attention followed through all layers and residuals (Abnar & Zuidema 2020)",
            function="vitcli.attention.methods:attention_rollout",
            needs="attention",
            unit="share of attention per patch",
        ),
        "grad-rollout": MethodEntry(
            summary="rollout of the attention that supports the class",
            function="vitcli.attention.methods:gradient_rollout",
            needs="gradients",
        ),
        "ig": MethodEntry(
            summary="integrated gradients from the colour that is 0 for the model, signed (Sundararajan et al. 2017)",
            function="vitcli.attention.methods:integrated_gradients",
            needs="pixels",
            layers="none",
            is_signed=True,
            unit="share of the score per patch",
        ),
        "gradcam": MethodEntry(
            summary="class activation of the tokens that enter the last attention (Selvaraju et al. 2017)",
            function="vitcli.attention.methods:grad_cam",
            needs="tokens",
            layers="last",
        ),
        "hirescam": MethodEntry(
            summary="like gradcam, but each token with its own gradient (Draelos & Carin 2020)",
            function="vitcli.attention.methods:hires_cam",
            needs="tokens",
            layers="last",
        ),
        "legrad": MethodEntry(
            summary="how each layer's own score grows with its attention (Bousselham et al. 2024)",
            function="vitcli.attention.methods:legrad",
            needs="layer gradients",
        ),
        "random": MethodEntry(
            summary="noise, which every other method must beat",
            function="vitcli.attention.methods:random_map",
            needs="nothing",
            layers="none",
        ),
    },
    listing="vit attention-map --help",
)

DEFAULT_METHOD = "relevance"
DEFAULT_WITHOUT_CLASSES = "rollout"
"""The default for models without a classifier."""
EVERY_METHOD = tuple(name for name in METHODS if name != "random")
"""The methods that ``all`` stands for."""


def parse_methods(asked: Sequence[str]) -> tuple[str, ...]:
    """Parse method names, several between commas, or ``all``; each method is returned once.

    Raises:
        UsageError: a method does not exist.
    """
    names = [name.strip() for text in asked for name in text.split(",") if name.strip()]
    known = {"all": EVERY_METHOD, **{name: (name,) for name in METHODS}}
    for name in names:
        if name not in known:
            raise UsageError(
                f"unknown method {name!r}",
                hint=did_you_mean(name, known, otherwise=f"expected: all, {', '.join(METHODS)}"),
            )
    return tuple(dict.fromkeys(method for name in names for method in known[name]))
