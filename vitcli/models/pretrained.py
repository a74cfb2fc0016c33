"""Registry of pretrained weights: their locations, and facts that their tensors do not show. It imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vitcli.core.preprocessing import Size
from vitcli.core.registry import Registry

Colour = tuple[float, float, float]
IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF: tuple[Colour, Colour] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP: tuple[Colour, Colour] = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """Facts about a model that its tensors do not show; None: not known."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Known fields of ModelConfig."""
    is_listed: bool = False
    """True: the architecture is known by its name, so that nothing about its computation is a guess."""
    colours: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation per channel."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    resize: Literal["crop", "squash", "squash-crop"] | None = None
    crop_fraction: float | None = None
    image_size: Size | None = None
    classes: tuple[str, ...] | None = None

    def over(self, other: "Traits") -> "Traits":
        """Merge with other traits, which fill in the facts that are not known here."""

        def either(name: str) -> Any:
            mine = getattr(self, name)
            return getattr(other, name) if mine is None else mine

        rest = {name: either(name) for name in Traits.__dataclass_fields__ if name not in {"settings", "is_listed"}}
        return Traits(settings={**other.settings, **self.settings}, is_listed=self.is_listed or other.is_listed, **rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedEntry:
    """Pretrained weights that can be downloaded: from ``hub`` and ``file``, or from ``url``."""

    model: str
    """The architecture of ``vit models`` that the weights fit.

    Their input size, number of tokens or family may differ from it; then it is the most similar one.
    """
    summary: str
    licence: str
    parameters: int
    """Number of parameters, in millions."""
    top1: float | None
    """Published accuracy on ImageNet, in percent; None: there is no classifier."""
    traits: Traits
    hub: str = ""
    """The repository on the Hugging Face hub: OWNER/NAME."""
    file: str = "model.safetensors"
    """The file in the repository; empty: the first of the usual names that exists."""
    revision: str = "main"
    url: str = ""
    sha256: str = ""
    """The first digits of the file's hash, or all of them; empty: only the hub's own checksum is compared."""


def _traits(colours: tuple[Colour, Colour], crop_fraction: float, size: int = 224, **more: Any) -> Traits:
    return Traits(
        is_listed=True,
        colours=colours,
        interpolation="bicubic",
        resize="crop",
        crop_fraction=crop_fraction,
        image_size=(size, size),
        **more,
    )


_DEIT: dict[str, Any] = {"licence": "Apache-2.0", "traits": _traits(IMAGENET, 0.9)}
_DEIT_384: dict[str, Any] = {"licence": "Apache-2.0", "traits": _traits(IMAGENET, 1.0, 384)}
_DEIT_FILES = "https://dl.fbaipublicfiles.com/deit/"
_AUGREG: dict[str, Any] = {"licence": "Apache-2.0", "traits": _traits(HALF, 0.9)}
_DINOV2: dict[str, Any] = {"licence": "Apache-2.0", "traits": _traits(IMAGENET, 1.0, 518), "top1": None}
_TORCHVISION_224 = Traits(
    is_listed=True, colours=IMAGENET, interpolation="bilinear", resize="crop", crop_fraction=224 / 256
)
_TORCHVISION: dict[str, Any] = {"licence": "BSD-3-Clause", "traits": _TORCHVISION_224}
_TORCHVISION_FILES = "https://download.pytorch.org/models/"


def _entry(model: str, summary: str, parameters: int, top1: float | None = None, **more: Any) -> PretrainedEntry:
    return PretrainedEntry(**{"model": model, "summary": summary, "parameters": parameters, "top1": top1, **more})


def _file(folder: str, name: str) -> dict[str, str]:
    """Return the address and hash of a file whose name ends with the first digits of its hash."""
    return {"url": folder + name, "sha256": name.removesuffix(".pth").rpartition("-")[2]}


PRETRAINED: Registry[PretrainedEntry] = Registry(
    "pretrained weights",
    {
        "augreg-tiny": _entry(
            "vit-tiny-patch16",
            "ImageNet-21k, then ImageNet-1k",
            6,
            75.5,
            hub="timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
            **_AUGREG,
        ),
        "augreg-small": _entry(
            "vit-small-patch16",
            "ImageNet-21k, then ImageNet-1k",
            22,
            81.4,
            hub="timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            **_AUGREG,
        ),
        "augreg-base": _entry(
            "vit-base-patch16",
            "ImageNet-21k, then ImageNet-1k",
            87,
            84.5,
            hub="timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
            **_AUGREG,
        ),
        "augreg-large": _entry(
            "vit-large-patch16",
            "ImageNet-21k, then ImageNet-1k",
            304,
            85.8,
            hub="timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
            **_AUGREG,
        ),
        "augreg-base-384": _entry(
            "vit-base-patch16",
            "ImageNet-21k, then ImageNet-1k, 384 pixels",
            87,
            86.0,
            hub="timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
            licence="Apache-2.0",
            traits=_traits(HALF, 1.0, 384),
        ),
        "deit-tiny": _entry(
            "vit-tiny-patch16",
            "ImageNet-1k",
            6,
            72.2,
            hub="timm/deit_tiny_patch16_224.fb_in1k",
            revision="457c7aea80b608b44786bd3193556c727028bd6d",
            sha256="21d4764d94f6c3ffdb6da3581115a0a1ee2d505537d96883b540e54766407c9e",
            **_DEIT,
        ),
        "deit-small": _entry(
            "vit-small-patch16",
            "ImageNet-1k",
            22,
            79.9,
            **_file(_DEIT_FILES, "deit_small_patch16_224-cd65a155.pth"),
            **_DEIT,
        ),
        "deit-base": _entry(
            "vit-base-patch16",
            "ImageNet-1k",
            87,
            81.8,
            **_file(_DEIT_FILES, "deit_base_patch16_224-b5f2ef4d.pth"),
            **_DEIT,
        ),
        "deit-base-384": _entry(
            "vit-base-patch16",
            "ImageNet-1k, 384 pixels",
            87,
            82.9,
            **_file(_DEIT_FILES, "deit_base_patch16_384-8de9b5d1.pth"),
            **_DEIT_384,
        ),
        "deit-tiny-distilled": _entry(
            "vit-tiny-patch16",
            "ImageNet-1k, distilled",
            6,
            74.5,
            **_file(_DEIT_FILES, "deit_tiny_distilled_patch16_224-b40b3cf7.pth"),
            **_DEIT,
        ),
        "deit-small-distilled": _entry(
            "vit-small-patch16",
            "ImageNet-1k, distilled",
            22,
            81.2,
            **_file(_DEIT_FILES, "deit_small_distilled_patch16_224-649709d9.pth"),
            **_DEIT,
        ),
        "deit-base-distilled": _entry(
            "vit-base-patch16",
            "ImageNet-1k, distilled",
            87,
            83.4,
            **_file(_DEIT_FILES, "deit_base_distilled_patch16_224-df68dfff.pth"),
            **_DEIT,
        ),
        "deit-base-distilled-384": _entry(
            "vit-base-patch16",
            "ImageNet-1k, distilled, 384 pixels",
            88,
            85.2,
            **_file(_DEIT_FILES, "deit_base_distilled_patch16_384-d0272ac0.pth"),
            **_DEIT_384,
        ),
        "deit3-small": _entry(
            "vit-small-patch16", "ImageNet-1k", 22, 81.4, hub="timm/deit3_small_patch16_224.fb_in1k", **_DEIT
        ),
        "deit3-base": _entry(
            "vit-base-patch16", "ImageNet-1k", 87, 83.8, hub="timm/deit3_base_patch16_224.fb_in1k", **_DEIT
        ),
        "deit3-large": _entry(
            "vit-large-patch16", "ImageNet-1k", 304, 84.8, hub="timm/deit3_large_patch16_224.fb_in1k", **_DEIT
        ),
        "torchvision-b16": _entry(
            "vit-base-patch16",
            "ImageNet-1k",
            87,
            81.1,
            **_file(_TORCHVISION_FILES, "vit_b_16-c867db91.pth"),
            **_TORCHVISION,
        ),
        "torchvision-b32": _entry(
            "vit-base-patch32",
            "ImageNet-1k",
            88,
            75.9,
            **_file(_TORCHVISION_FILES, "vit_b_32-d86f8d99.pth"),
            **_TORCHVISION,
        ),
        "torchvision-l16": _entry(
            "vit-large-patch16",
            "ImageNet-1k",
            304,
            79.7,
            **_file(_TORCHVISION_FILES, "vit_l_16-852ce7e3.pth"),
            **{**_TORCHVISION, "traits": replace(_TORCHVISION_224, crop_fraction=224 / 242)},
        ),
        "torchvision-l32": _entry(
            "vit-large-patch32",
            "ImageNet-1k",
            307,
            77.0,
            **_file(_TORCHVISION_FILES, "vit_l_32-c7638314.pth"),
            **_TORCHVISION,
        ),
        "clip-base": _entry(
            "vit-base-patch16",
            "LAION-2B with CLIP, then ImageNet-12k and -1k",
            87,
            86.2,
            hub="timm/vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
            licence="Apache-2.0",
            traits=_traits(CLIP, 0.95),
        ),
        "clip-large": _entry(
            "vit-large-patch14",
            "LAION-2B with CLIP, then ImageNet-12k and -1k",
            304,
            87.9,
            hub="timm/vit_large_patch14_clip_224.laion2b_ft_in12k_in1k",
            licence="Apache-2.0",
            traits=_traits(HALF, 1.0),
        ),
        "dinov2-small": _entry(
            "vit-small-patch14",
            "142 million images, self-supervised",
            22,
            hub="timm/vit_small_patch14_dinov2.lvd142m",
            **_DINOV2,
        ),
        "dinov2-base": _entry(
            "vit-base-patch14",
            "142 million images, self-supervised",
            87,
            hub="timm/vit_base_patch14_dinov2.lvd142m",
            **_DINOV2,
        ),
        "dinov2-large": _entry(
            "vit-large-patch14",
            "142 million images, self-supervised",
            304,
            hub="timm/vit_large_patch14_dinov2.lvd142m",
            **_DINOV2,
        ),
        "dinov2-small-registers": _entry(
            "vit-small-patch14",
            "142 million images, self-supervised, 4 registers",
            22,
            hub="timm/vit_small_patch14_reg4_dinov2.lvd142m",
            **_DINOV2,
        ),
        "dinov2-base-registers": _entry(
            "vit-base-patch14",
            "142 million images, self-supervised, 4 registers",
            87,
            hub="timm/vit_base_patch14_reg4_dinov2.lvd142m",
            **_DINOV2,
        ),
        "dinov2-large-registers": _entry(
            "vit-large-patch14",
            "142 million images, self-supervised, 4 registers",
            304,
            hub="timm/vit_large_patch14_reg4_dinov2.lvd142m",
            **_DINOV2,
        ),
    },
    listing="vit download",
)


def pretrained_for(model: str) -> str:
    """Return the name of the weights that ``--pretrained`` means for an architecture; empty: there are none."""
    return next((name for name, entry in PRETRAINED.items() if entry.model == model), "")
