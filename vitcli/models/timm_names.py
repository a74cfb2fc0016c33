"""Names of timm's Vision Transformers: facts that their tensors do not show, and why some of them cannot be loaded.

Many architectures of timm have the tensor names of a plain Vision Transformer, but compute something else. Therefore a
name must be on the list of plain architectures; every other name of timm is refused. Source: timm 1.0.
"""

import re
from typing import Any

from vitcli.core.errors import ModelError

_SIZES = "(?:x?small|tiny|medium|mediumd|betwixt|base|large|huge|giant|gigantic|wee|little|so150m2?|so400m|giantopt)"
_PLAIN = re.compile(
    rf"vit_{_SIZES}_patch\d+(?:_plus)?(?:_36x1)?(?:_reg\d)?(?:_clip|_clip_quickgelu|_siglip)?(?:_gap)?(?:_\d+)?(?:_miil)?"
    rf"|vit_{_SIZES}_patch14(?:_reg4)?_dinov2|vit_{_SIZES}_patch14_reg1_tipsv2|vit_{_SIZES}_patch16_radio_v\d"
    r"|vit_intern300m_patch14_448|eva_large_patch14_\d+|flexivit_\w+"
    r"|deit_\w+_patch\d+_\d+|deit3_\w+_patch\d+_\d+|test_vit2?"
)
_CAUSES = (
    (r"vit_s?relpos|relpos|beit_|beitv2", "relative positions"),
    (r"beit3", "extra norms within attention and MLP"),
    (r"rope|dinov3|lingbot|sapiens2|eva02|eva_giant|vit_pe_", "rotary positions"),
    (r"_rpn", "norms behind attention and MLP (residual post-norm)"),
    (r"18x2|_xp_|pwee", "attention and MLP in parallel"),
    (r"dwee|dlittle", "differential attention"),
    (r"giant_patch14_.*(?:dinov2|tipsv2)|aimv2", "a gated MLP"),
    (r"_siglip(?!_gap)|_map_|test_vit3", "attention pooling"),
    (r"_r\d*_s\d+|resnet|_mci_", "a convolutional stem"),
    (r"samvit", "windowed attention"),
    (r"test_vit4", "RMSNorm"),
)
"""Patterns in names, and the part of the architecture that our model lacks."""
_OF_TIMM = re.compile(r"(?:vit|deit3?|flexivit|eva(?:02)?|beit(?:v2|3)?|samvit|aimv2|test_vit\d?)(?:_|$)")
"""The beginning of timm's names of Vision Transformers."""
_GELU_TANH = re.compile(r"patch32_siglip|so400m_patch16_siglip|giantopt|large_patch16_siglip(?:_gap)?_512")
_HEADS = {"vit_base_patch16_gap_224": 16, "test_vit": 2, "test_vit2": 2}
"""Numbers of heads that differ from ``usual_heads``; giantopt has 16 as well."""
_USUAL_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads by width of the published sizes whose heads are not 64 wide: so400m, huge, giant, gigantic."""
_HEAD_WIDTH = 64


def usual_heads(width: int) -> int:
    """Return the number of heads that published models of a width have."""
    return _USUAL_HEADS.get(width, max(width // _HEAD_WIDTH, 1))


def cause_against(architecture: str) -> str:
    """Return what keeps an architecture of timm from being a plain Vision Transformer; empty: nothing is known."""
    name = _bare(architecture)
    return (
        ""
        if _is_plain(name) or not _OF_TIMM.match(name)
        else next((cause for pattern, cause in _CAUSES if re.search(pattern, name)), "")
    )


def is_plain(architecture: str) -> bool:
    """Tell whether an architecture of timm is known to be a plain Vision Transformer."""
    return _is_plain(_bare(architecture))


def check_plain(architecture: str) -> None:
    """Refuse an architecture of timm that is not known to be a plain Vision Transformer.

    Raises:
        ModelError: it is not on the list; the message names the cause.
    """
    if is_plain(architecture):
        return
    cause = cause_against(architecture)
    raise ModelError(
        f"{architecture} has {cause}, which vit's model does not have"
        if cause
        else f"{architecture} is not an architecture of timm that vit knows to compute in the same way",
        hint="plain Vision Transformers can be loaded, for example vit_base_patch16_224; `vit download` lists others",
    )


def settings_of_name(architecture: str) -> dict[str, Any]:
    """Return the fields of ModelConfig that the name of a plain architecture decides, but its tensors do not show."""
    name = _bare(architecture)
    settings: dict[str, Any] = {}
    if name in _HEADS or "giantopt" in name:
        settings["num_heads"] = _HEADS.get(name, 16)
    if "quickgelu" in name:
        settings["activation"] = "gelu-quick"
    elif _GELU_TANH.search(name):
        settings["activation"] = "gelu-tanh"
    if "_clip_" in name:
        settings["norm_eps"] = 1e-5
    return settings


def _bare(architecture: str) -> str:
    """Remove the tag of the training data from a name: ``vit_base_patch16_224.augreg_in1k``."""
    return architecture.partition(".")[0].lower()


def _is_plain(name: str) -> bool:
    return bool(_PLAIN.fullmatch(name)) and not any(re.search(pattern, name) for pattern, _ in _CAUSES)
