"""What can be configured, as frozen dataclasses: one field, one meaning, one default.

The order is that of the road: data, augmentation, model, optimisation, run. A value that does not fit raises
UsageError from ``__post_init__``; how settings from files and flags become these classes is in ``config_files``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vitcli.core.errors import UsageError
from vitcli.core.preprocessing import Size, format_size


def _check(condition: bool, message: str, hint: str = "") -> None:  # noqa: FBT001 - reads as `assert` does
    if not condition:
        raise UsageError(message, hint=hint)


def _check_shares(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _check(0 <= value < 1, f"{name} = {value} is not in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Which images, and how they become tensors."""

    name: str = ""
    """A data set's name or the path of an image folder; empty: the one downloaded last, else the digits."""
    dir: str = ""
    """Where data sets are kept; empty: ``$VIT_DATA_DIR``, else the user's cache folder."""
    val_fraction: float = 0.1
    """Share of the training split held out where a data set has no validation split."""
    test_fraction: float = 0.2
    """Share held out for testing where a folder has no splits at all (the same images for every seed)."""
    resize: Literal["crop", "squash"] = "crop"
    """Keep the aspect ratio and crop the centre, or stretch to the model's size."""
    crop_fraction: float = 0.9
    """Share of the short side that the centre crop keeps (photos only: images of one small size are used whole)."""
    normalise: Literal["dataset", "imagenet", "half", "none"] = "dataset"
    """Mean and standard deviation: of the training split, of ImageNet, 0.5/0.5, or 0/1."""
    workers: int = 0
    """Threads that decode images; 0: one per core."""

    def __post_init__(self) -> None:
        _check(0 < self.val_fraction < 1, f"val_fraction = {self.val_fraction} is not between 0 and 1")
        _check(0 < self.test_fraction < 1, f"test_fraction = {self.test_fraction} is not between 0 and 1")
        _check(0 < self.crop_fraction <= 1, f"crop_fraction = {self.crop_fraction} is not in (0, 1]")
        _check(self.workers >= 0, f"workers = {self.workers} is negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Random changes of training images, drawn anew for every image in every epoch."""

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
    flip: float = 0.0
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    mixup: float = 0.0
    """MixUp's alpha (Zhang et al. 2018); 0 turns it off."""
    cutmix: float = 0.0
    """CutMix's alpha (Yun et al. 2019); 0 turns it off; with both on, each batch draws one."""

    def __post_init__(self) -> None:
        _check(self.crop_padding >= 0, f"crop_padding = {self.crop_padding} is negative")
        _check(0 < self.crop_scale <= 1, f"crop_scale = {self.crop_scale} is not in (0, 1]")
        low, high = self.crop_ratio
        _check(0 < low <= high, f"crop_ratio = {low:g}, {high:g} is not a positive range")
        for name in ("flip", "vertical_flip"):
            _check(0 <= getattr(self, name) <= 1, f"{name} = {getattr(self, name)} is not a probability")
        _check(0 <= self.shift <= 1, f"shift = {self.shift} is not in [0, 1]")
        for name in ("rotate", "zoom", "mixup", "cutmix"):
            _check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One Vision Transformer, whole; ``models.registry`` holds named ones."""

    name: str = "custom"
    """The registry entry it started from."""
    image_size: Size = (224, 224)
    patch_size: Size = (16, 16)
    in_channels: int = 3
    num_classes: int = 1000
    """0: no head; the model answers with the pooled features."""
    width: int = 192
    """Features per token."""
    depth: int = 12
    """Number of blocks."""
    num_heads: int = 3
    mlp_width: int = 768
    patch_embedding: Literal["conv", "linear"] = "conv"
    """How patch weights are laid out: a convolution (C, h, w), or a linear layer on unfolded pixels (h, w, C)."""
    patch_bias: bool = True
    class_token: bool = True
    distillation: Literal["none", "token", "head"] = "none"
    """A second token like the class token (DeiT, Touvron et al. 2021); with ``head`` it has a classifier of its own,
    and the two classifiers' logits are averaged."""
    num_registers: int = 0
    """Register tokens (Darcet et al. 2024) between these tokens and the patches; they have no positions."""
    positions: Literal["learned", "sincos"] = "learned"
    """Position embedding of tokens and patches; ``sincos`` is fixed, 2-D, and zero for all but the patches."""
    prefix_positions: bool = True
    """Class and distillation token have positions too."""
    input_norm: bool = False
    """LayerNorm before the first block, as in CLIP."""
    pooling: Literal["class", "tokens", "patches"] = "class"
    """What the head sees: the class token, the mean of all tokens, or the mean of the patches."""
    block_norm: Literal["pre", "post"] = "pre"
    final_norm: Literal["tokens", "pooled", "none"] = "tokens"
    """LayerNorm before pooling, after it, or not at all."""
    norm_eps: float = 1e-6
    activation: Literal["gelu", "gelu-tanh", "gelu-quick", "relu"] = "gelu"
    """``gelu-quick``: x * sigmoid(1.702 x), as in OpenAI's CLIP."""
    qkv_bias: bool = True
    layer_scale: float = 0.0
    """Initial LayerScale (Touvron et al. 2021); 0: none."""
    drop_path: float = 0.0
    """Stochastic depth (Huang et al. 2016) of the last block; earlier blocks get linearly less."""
    dropout: float = 0.0
    """Dropout after the embedding, after attention and in the MLP."""
    attention_dropout: float = 0.0
    head_width: int = 0
    """Width of an MLP head's hidden layer; 0: a linear head."""
    head_dropout: float = 0.0
    init_std: float = 0.02
    """Standard deviation of the truncated normal that weights start from."""
    patch_init_std: float = 0.02
    """The same for the patch embedding; one over the square root of a patch's pixels suits sincos positions."""

    def __post_init__(self) -> None:
        for name in ("in_channels", "width", "depth", "num_heads", "mlp_width"):
            _check(getattr(self, name) > 0, f"{name} = {getattr(self, name)} is not positive")
        for name in ("num_classes", "num_registers", "head_width", "layer_scale", "norm_eps"):
            _check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")
        _check_shares(self, "drop_path", "dropout", "attention_dropout", "head_dropout")
        _check(min(self.image_size + self.patch_size) > 0, "image and patch size must be positive")
        _check(
            self.width % self.num_heads == 0,
            f"width {self.width} is not divisible by {self.num_heads} heads",
            f"the nearest width that works: --set model.width={_nearest_multiple(self.width, self.num_heads)}",
        )
        (image_h, image_w), (patch_h, patch_w) = self.image_size, self.patch_size
        nearest = (_nearest_multiple(image_h, patch_h), _nearest_multiple(image_w, patch_w))
        _check(
            image_h % patch_h == 0 and image_w % patch_w == 0,
            f"image size {format_size(self.image_size)} is not divisible by patch size {format_size(self.patch_size)}",
            f"the nearest image size that works: --image-size {format_size(nearest)}",
        )
        _check(
            self.class_token or self.pooling != "class",
            "pooling 'class' needs a class token",
            "--set model.pooling=patches, or --set model.class_token=true",
        )
        _check(
            self.distillation == "none" or self.pooling == "class",
            f"a distillation token stands beside a class token, not with pooling {self.pooling!r}",
            "--set model.pooling=class, or --set model.distillation=none",
        )
        _check(
            self.positions != "sincos" or self.width % 4 == 0,
            f"sincos positions need a width divisible by 4, not {self.width}",
            f"--set model.width={_nearest_multiple(self.width, 4)}",
        )

    @property
    def grid(self) -> Size:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def num_named_tokens(self) -> int:
        """Class and distillation token."""
        return int(self.class_token) + int(self.distillation != "none")

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: class and distillation token, and registers."""
        return self.num_named_tokens + self.num_registers

    @property
    def num_positions(self) -> int:
        """Rows of the position embedding."""
        return self.num_named_tokens * self.prefix_positions + self.grid[0] * self.grid[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """A registry entry by name, and the fields of ModelConfig that differ from it.

    What neither says comes from the data: image size, channels, classes.
    """

    name: str = "vit-nano-patch4"
    changes: Mapping[str, Any] = field(default_factory=dict)


USUAL_LR = {"muon": 0.01, "adamw": 0.002, "adam": 0.001, "sgd": 0.05}
"""Peak learning rates that suit each optimizer where none is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """How the weights are found."""

    epochs: int = 20
    batch_size: int = 128
    """Images per optimiser step."""
    grad_accum_steps: int = 1
    """Parts into which a batch is cut to save memory; the step stays the same."""
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "muon"
    """muon: Muon (Jordan 2024) on the matrices of the blocks, AdamW on all else; adam: weight decay as L2 penalty."""
    lr: float = 0.0
    """Peak learning rate; with muon, that of the matrices; 0: the optimizer's usual one (``USUAL_LR``)."""
    adamw_lr: float = 0.002
    """With muon, the peak learning rate of all else."""
    weight_decay: float = 0.01
    """Never on norms, biases, positions and tokens."""
    momentum: float = 0.9
    """Of sgd; muon's is 0.95."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adam and adamw."""
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "cosine"
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up (one-cycle has its own)."""
    min_lr: float = 0.0
    """Where cosine ends, as a share of the peak."""
    step_size: int = 2
    """Epochs between the drops of the step schedule."""
    gamma: float = 0.1
    """Factor of each drop."""
    label_smoothing: float = 0.0
    clip_grad: float = 1.0
    """Greatest norm of the gradient; 0: no clipping."""
    layer_decay: float = 1.0
    """Factor on the learning rate per block below the head (Clark et al. 2020); 1: none."""
    freeze_backbone: bool = False
    """Train the head alone."""
    ema: bool = False
    """Keep, evaluate and store an exponential moving average of the weights."""
    ema_decay: float = 0.999
    patience: int = 0
    """Stop after this many epochs without a better one; 0: never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "grad_accum_steps", "step_size"):
            _check(getattr(self, name) > 0, f"{name} = {getattr(self, name)} is not positive")
        _check(0 < self.gamma <= 1, f"gamma = {self.gamma} is not in (0, 1]")
        _check(0 <= self.lr < float("inf"), f"lr = {self.lr} is negative or endless")
        for name in ("adamw_lr", "layer_decay"):
            _check(0 < getattr(self, name) < float("inf"), f"{name} = {getattr(self, name)} is not positive")
        for name in ("weight_decay", "warmup_epochs", "clip_grad", "patience"):
            value = getattr(self, name)
            _check(0 <= value < float("inf"), f"{name} = {value} is negative or endless")
        _check_shares(self, "momentum", "min_lr", "label_smoothing", "ema_decay")
        _check(all(0 <= beta < 1 for beta in self.betas), f"betas = {self.betas} are not in [0, 1)")
        _check(
            self.grad_accum_steps <= self.batch_size,
            f"a batch of {self.batch_size} cannot be cut into {self.grad_accum_steps} parts",
        )

    @property
    def peak_lr(self) -> float:
        """The peak learning rate, given or usual."""
        return self.lr or USUAL_LR[self.optimizer]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Where it happens, and what is kept of it."""

    name: str = ""
    """The run's name; empty: made of data set, model and a number."""
    output_dir: str = "experiments"
    overwrite: bool = False
    """Replace a run of the same name."""
    recipe: str = ""
    """The recipe that the settings started from."""
    init_from: str = ""
    """A run or checkpoint whose weights training starts from."""
    seed: int = 42
    deterministic: bool = False
    """Refuse operations whose result may differ from run to run (GPU)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    amp: Literal["auto", "on", "off"] = "auto"
    """Mixed precision; auto: on CUDA devices that compute in bfloat16."""
    amp_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    compile: bool = False
    """Compile the model with torch.compile."""
    save_every: int = 0
    """Keep a checkpoint every this many epochs, besides best and last; 0: none."""

    def __post_init__(self) -> None:
        is_folder_name = not self.name.startswith(".") and not {"/", "\\"} & set(self.name)
        _check(is_folder_name, f"name = {self.name!r} is not the name of a folder", "--output-dir says where runs go")
        _check(self.save_every >= 0, f"save_every = {self.save_every} is negative")
        _check(0 <= self.seed < 2**63, f"seed = {self.seed} is not in [0, 2^63)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All of a training run: give the same one again and get the same result."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelChoice = field(default_factory=ModelChoice)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


def _nearest_multiple(value: int, of: int) -> int:
    return max(of, (value + of // 2) // of * of)
