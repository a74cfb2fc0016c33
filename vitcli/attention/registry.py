"""Attribution methods by name: a table without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.registry import Registry

Needs = Literal["nothing", "attention", "gradients", "layer gradients", "tokens", "pixels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodEntry:
    """One method: a function from ``evidence.Evidence`` and ``evidence.Options`` to a weight per token, (B, N)."""

    summary: str
    function: str
    """``module:function``."""
    needs: Needs
    """What of the evidence it reads besides the pooling row."""
    layers: Literal["all", "last", "none"] = "all"
    """The layers that it uses where none are chosen; none: it knows of no layers."""
    is_signed: bool = False
    """Whether weights below 0 speak against the class."""
    unit: str = ""
    """The meaning of a patch's weight, where a few words can say it."""

    @property
    def chooses_class(self) -> bool:
        """Tell whether the map depends on the class that is asked for."""
        return self.needs not in {"nothing", "attention"}

    @property
    def looks_at_layers(self) -> bool:
        """Tell whether it can be asked about one layer's attention alone."""
        return self.needs in {"attention", "gradients", "layer gradients"}


METHODS: Registry[MethodEntry] = Registry(
    "method",
    {
        "relevance": MethodEntry(
            summary="attention that speaks for the class, through all layers (Chefer et al. 2021)",
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
            summary="rollout of the attention that speaks for the class",
            function="vitcli.attention.methods:gradient_rollout",
            needs="gradients",
        ),
        "ig": MethodEntry(
            summary="integrated gradients from the mean colour, signed (Sundararajan et al. 2017)",
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
            summary="the same, each token with its own gradient (Draelos & Carin 2020)",
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
"""For models that have no classifier."""
EVERY_METHOD = tuple(name for name in METHODS if name != "random")
"""What ``all`` means."""


def parse_methods(asked: Sequence[str]) -> tuple[str, ...]:
    """Names, several between commas, or ``all``; each once.

    Raises:
        UsageError: there is no such method.
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
