"""The random changes of training images: a part of the configuration."""

from dataclasses import dataclass, replace
from typing import Literal

from vitcli.core.model_config import check


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random changes of training images, drawn for every image in every epoch."""

    crop_padding: int = 0
    """Random crop after zero padding by this many pixels on every side."""
    crop_scale: float = 1.0
    """Random resized crop: the least share of the area that is kept; 1 turns it off."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Random resized crop: least and greatest aspect ratio (width over height)."""
    rotate: float = 0.0
    """Random rotation by up to this many degrees, either way."""
    zoom: float = 0.0
    """Random enlargement or reduction by a factor of up to 1 + zoom."""
    shift: float = 0.0
    """Random shift by up to this share of height and width."""
    shear: float = 0.0
    """Random shear along the rows by up to this many degrees, either way."""
    affine_probability: float = 1.0
    """Probability that an image is rotated, zoomed, shifted and sheared at all."""
    flip: float = 0.0
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """trivial: one operation per image, of any strength (TrivialAugment, Müller & Hutter 2021); rand: several, all of
    one strength (RandAugment, Cubuk et al. 2019); after crops and flips, before colours."""
    policy_ops: int = 2
    """RandAugment's operations per image."""
    policy_magnitude: int = 9
    """RandAugment's strength, 0 to 30."""
    brightness: float = 0.0
    """Brightness times a factor in [1 - x, 1 + x], not below 0; likewise contrast and saturation."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Hue turned by up to this share of the circle, either way; at most 0.5."""
    colour_probability: float = 1.0
    """Probability that an image's brightness, contrast, saturation and hue are changed at all."""
    grey: float = 0.0
    """Probability that an image loses its colours."""
    erase: float = 0.0
    """Probability that a rectangle is filled with noise (Zhong et al. 2020)."""
    mixup: float = 0.0
    """MixUp's alpha (Zhang et al. 2018); 0 turns it off."""
    feature_views: int = 0
    """How many changed views of each image a frozen backbone sees, once for all epochs; 0: new ones in every epoch."""
    cutmix: float = 0.0
    """CutMix's alpha (Yun et al. 2019); 0 turns it off; with both on, each batch draws one."""

    def __post_init__(self) -> None:
        check(self.crop_padding >= 0, f"crop_padding = {self.crop_padding} is negative")
        check(0 < self.crop_scale <= 1, f"crop_scale = {self.crop_scale} is not in (0, 1]")
        low, high = self.crop_ratio
        check(0 < low <= high, f"crop_ratio = {low:g}, {high:g} is not a positive range")
        for name in ("flip", "vertical_flip", "affine_probability", "colour_probability", "grey", "erase"):
            check(0 <= getattr(self, name) <= 1, f"{name} = {getattr(self, name)} is not a probability")
        check(self.hue <= 0.5, f"hue = {self.hue} is above 0.5")
        check(0 <= self.shift <= 1, f"shift = {self.shift} is not in [0, 1]")
        check(0 <= self.shear < 90, f"shear = {self.shear} is not in [0, 90) degrees")
        check(self.policy_ops > 0, f"policy_ops = {self.policy_ops} is not positive")
        check(0 <= self.policy_magnitude <= 30, f"policy_magnitude = {self.policy_magnitude} is not in 0 to 30")
        for name in (
            "rotate",
            "zoom",
            "mixup",
            "cutmix",
            "feature_views",
            "brightness",
            "contrast",
            "saturation",
            "hue",
        ):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")

    @property
    def changes_nothing(self) -> bool:
        """Tell whether training sees the images as they are."""
        return replace(self, feature_views=0) == AugmentConfig()
