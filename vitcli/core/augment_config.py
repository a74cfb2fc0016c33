"""The configuration of augmentation: random changes of training images."""

from dataclasses import dataclass, replace
from typing import Literal

from vitcli.core.model_config import check, check_numbers

_MOST_PADDING, _MOST_ZOOM = 1000, 100
_STRONGEST = {
    "rotate": 180.0,
    "zoom": 0.9,
    "shift": 1.0,
    "shear": 80.0,
    "erase": 1.0,
    "mixup": 10.0,
    "cutmix": 10.0,
    "brightness": 2.0,
    "brightness_offset": 1.0,
    "contrast": 2.0,
    "saturation": 2.0,
    "hue": 0.5,
}
"""Strengths of changes, and the highest useful value of each."""
_SMALLEST_CROP, _MOST_MAGNITUDE = 0.08, 30


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random changes of training images, drawn for every image in every epoch."""

    crop_padding: int = 0
    """Random crop after zero padding: pixels added on every side."""
    crop_scale: float = 1.0
    """Random resized crop: smallest share of the area that is kept; 1 turns it off."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Random resized crop: smallest and largest aspect ratio (width / height)."""
    rotate: float = 0.0
    """Random rotation: largest angle in degrees, in both directions."""
    zoom: float = 0.0
    """Random zoom, in or out, by a factor of up to 1 + zoom."""
    zoom_law: Literal["log", "linear"] = "log"
    """Distribution of the zoom factor: log-uniform in [1 / (1 + zoom), 1 + zoom], or uniform in [1 - zoom, 1 + zoom]."""
    shift: float = 0.0
    """Random shift: largest share of height and width of the image, after it was cropped."""
    shear: float = 0.0
    """Random shear along the rows: largest angle in degrees, in both directions."""
    border: Literal["black", "reflect"] = "black"
    """Pixels that rotation, zoom, shift and shear bring in: black beyond the photo, or the crop reflected at its edges."""
    antialias: bool = True
    """Average the pixels of a photo where it shrinks; otherwise they are skipped."""
    affine_probability: float = 1.0
    """Probability that rotation, zoom, shift and shear are applied to an image."""
    flip: float = 0.0
    """Probability of a horizontal flip, which swaps left and right."""
    vertical_flip: float = 0.0
    """Probability of a vertical flip, which swaps top and bottom."""
    policy: Literal["none", "trivial", "rand"] = "none"
    """trivial: one operation per image, with a random strength (TrivialAugment, Müller & Hutter 2021); rand: several
    operations with one strength (RandAugment, Cubuk et al. 2019); applied after crops and flips, before colours."""
    policy_ops: int = 2
    """RandAugment: operations per image."""
    policy_magnitude: int = 9
    """RandAugment: strength, 0 to 30."""
    brightness: float = 0.0
    """Multiply the brightness by a random factor in [1 - brightness, 1 + brightness], not below 0."""
    brightness_offset: float = 0.0
    """Add a random share of white in [-brightness_offset, brightness_offset], together with the brightness factor."""
    contrast: float = 0.0
    """Multiply the contrast by a random factor in [1 - contrast, 1 + contrast], not below 0."""
    saturation: float = 0.0
    """Multiply the saturation by a random factor in [1 - saturation, 1 + saturation], not below 0."""
    hue: float = 0.0
    """Random hue shift: largest share of the colour circle, in both directions; at most 0.5."""
    colour_probability: float = 1.0
    """Probability that the changes of brightness, contrast, saturation and hue are applied to an image."""
    grey: float = 0.0
    """Probability that an image becomes grey."""
    erase: float = 0.0
    """Probability that a rectangle of the image is filled with noise (Zhong et al. 2020)."""
    mixup: float = 0.0
    """MixUp's alpha (Zhang et al. 2018); 0 turns it off."""
    feature_views: int = 0
    """Number of augmented views per image for which a frozen backbone computes features once; epochs use them in turn;
    0: new views in every epoch."""
    cutmix: float = 0.0
    """CutMix's alpha (Yun et al. 2019); 0 turns it off; if MixUp is on too, each batch uses one of them at random."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check(self.crop_padding >= 0, f"crop_padding = {self.crop_padding} is negative")
        check(0 < self.crop_scale <= 1, f"crop_scale = {self.crop_scale:g} is not above 0 and at most 1")
        low, high = self.crop_ratio
        check(0 < low <= high, f"crop_ratio = {low:g}, {high:g} is not a positive range")
        for name in ("flip", "vertical_flip", "affine_probability", "colour_probability", "grey", "erase"):
            check(0 <= getattr(self, name) <= 1, f"{name} = {getattr(self, name):g} is not a probability")
        check(self.hue <= 0.5, f"hue = {self.hue:g} is above 0.5")
        check(0 <= self.brightness_offset <= 1, f"brightness_offset = {self.brightness_offset:g} is not from 0 to 1")
        check(
            self.zoom_law == "log" or self.zoom < 1,
            f"zoom = {self.zoom:g} is not below 1, as zoom_law = 'linear' needs",
        )
        check(self.crop_padding <= _MOST_PADDING, f"crop_padding = {self.crop_padding} is above {_MOST_PADDING:,}")
        check(self.zoom <= _MOST_ZOOM, f"zoom = {self.zoom:g} is above {_MOST_ZOOM:,}")
        check(0 <= self.shift <= 1, f"shift = {self.shift:g} is not from 0 to 1")
        check(0 <= self.shear < 90, f"shear = {self.shear:g} is not at least 0 and less than 90 degrees")
        check(self.policy_ops > 0, f"policy_ops = {self.policy_ops} is not positive")
        check(
            0 <= self.policy_magnitude <= _MOST_MAGNITUDE,
            f"policy_magnitude = {self.policy_magnitude} is not from 0 to 30",
        )
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
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name):g} is negative")

    def strengths(self, factor: float) -> dict[str, float]:
        """Return the strength of every change that is on, multiplied by a factor; empty: no change has a strength.

        A flip has a probability, which depends on what the images show, not a strength.
        """
        found: dict[str, float] = {}
        for name, strongest in _STRONGEST.items():
            if own := getattr(self, name):
                found[name] = float(f"{min(own * factor, max(own, strongest)):.3g}")
        if self.crop_padding:
            found["crop_padding"] = min(round(self.crop_padding * factor), _MOST_PADDING)
        if self.crop_scale < 1:
            smallest = min(self.crop_scale, _SMALLEST_CROP)
            found["crop_scale"] = float(f"{max(1 - (1 - self.crop_scale) * factor, smallest):.3g}")
        if self.policy == "rand":
            found["policy_magnitude"] = min(round(self.policy_magnitude * factor), _MOST_MAGNITUDE)
        return found

    @property
    def changes_nothing(self) -> bool:
        """True if training sees the images without any random change."""
        return replace(self, feature_views=0) == AugmentConfig()
