"""The configuration, as frozen dataclasses: each field has one meaning and one default.

Sections come in the order in which training uses them: data, augmentation, model, optimisation, teacher, run. A value
that is not allowed raises UsageError from ``__post_init__``. ``config_files`` builds the classes from files and flags.
"""

from dataclasses import dataclass, field
from typing import Literal

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.model_config import ModelChoice, check, check_numbers
from vitcli.core.optim_config import OptimConfig
from vitcli.core.teacher_config import TeacherConfig

_LONGEST_NAME = 200
"""Bytes of the name of a run; systems allow 255 in a name, and other names are made of this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The images to train on, and how they become tensors."""

    name: str = ""
    """Name of a data set, or path of a folder of images; empty: the data set downloaded last, else the digits."""
    dir: str = ""
    """Folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder."""
    labels: str = ""
    """CSV file or list of image names and labels; empty: the file in the folder, if there are no class folders."""
    image_column: str = ""
    """Column of image names; empty: the column whose values are names of images."""
    label_column: str = ""
    """Column of labels; empty: the only column with a usual name such as "label", or else the only other column."""
    label_map: str = ""
    """JSON file that maps labels to class names; empty: the file in the folder that has every label."""
    val_fraction: float = 0.1
    """Share of the training split held out for validation if a data set has no validation split."""
    val_split: Literal["auto", "test"] = "auto"
    """Validation images: the validation split, else images held out of the training split; test: the test images, which
    are then not held out, and all training images are trained on."""
    test_fraction: float = 0.2
    """Share held out for testing if a data set has no splits at all (the same images for every seed); 0: none."""
    folds: int = 0
    """Number of stratified folds of the training split for cross-validation; 0: hold out ``val_fraction`` instead."""
    fold: int = 0
    """Fold used for validation, counted from 1; 0: each fold in turn."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Treatment of images that are missing, unreadable or have two different labels: stop, or leave them out."""
    cache: Literal["auto", "ram", "disk", "off"] = "auto"
    """Place of decoded photos: memory (ram), a file (disk) or nowhere (off); auto: a file, if there is room."""
    balanced_sampling: bool = False
    """Draw every class equally often in an epoch."""
    value_range: tuple[float, float] = (0.0, 0.0)
    """Values of black and white in images with more than 8 bits per value; 0, 0: measured."""
    resize: Literal["auto", "crop", "squash"] = "auto"
    """The way in which photos get the model's size: centre crop or squashing; auto: as the weights expect, else by a crop."""
    interpolation: Literal["auto", "bicubic", "bilinear", "bilinear-no-antialias"] = "auto"
    """The interpolation of resized photos; auto: as the weights expect, else bicubic; ``bilinear-no-antialias`` skips pixels where it
    shrinks a photo, and needs resize = "squash"."""
    crop_fraction: float = 0.0
    """Share of the short side of photos that the centre crop keeps; 0: as the weights expect, else 0.9."""
    normalise: Literal["auto", "dataset", "imagenet", "half", "none"] = "auto"
    """Mean and deviation: of the training split, of ImageNet, 0.5/0.5, or 0/1; auto: of the weights, else dataset."""
    workers: int = 0
    """Number of threads that decode images; 0: one per core."""

    def __post_init__(self) -> None:
        check_numbers(self)
        check(
            0 < self.val_fraction < 1,
            f"val_fraction = {self.val_fraction:g} is not between 0 and 1",
            "images that are held out show what was learned: --val-fraction 0.1 is usual",
        )
        check(0 <= self.test_fraction < 1, f"test_fraction = {self.test_fraction:g} is not at least 0 and less than 1")
        check(self.folds == 0 or self.folds > 1, f"folds = {self.folds} is not 2 or more")
        check(self.fold >= 0, f"fold = {self.fold} is negative")
        check(
            self.interpolation != "bilinear-no-antialias" or self.resize == "squash",
            "interpolation = 'bilinear-no-antialias' cannot crop photos",
            "--set data.resize=squash, or --set data.interpolation=bilinear",
        )
        check(0 <= self.crop_fraction <= 1, f"crop_fraction = {self.crop_fraction:g} is not from 0 to 1")
        low, high = self.value_range
        check(low < high or low == high == 0, f"value_range = {low:g}, {high:g} is not a range from low to high")
        check(self.workers >= 0, f"workers = {self.workers} is negative")

    @property
    def words(self) -> list[str]:
        """The words of a command that name these images and their table of labels."""
        keys = ("labels", "image_column", "label_column", "label_map")
        options = {f"--{key.replace('_', '-')}": getattr(self, key) for key in keys}
        given = [word for option, value in options.items() if value for word in (option, value)]
        return [*filter(None, [self.name]), *given]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The folder, start, device and checkpoints of a run."""

    name: str = ""
    """Name of the run; empty: built from data set, model and a number."""
    output_dir: str = "experiments"
    """Folder of all runs."""
    overwrite: bool = False
    """Replace an existing run with the same name."""
    recipe: str = ""
    """Recipe that the settings are based on."""
    init_from: str = ""
    """Weights that training starts from: a run, a file or folder, the name of pretrained weights, or an address."""
    pretrained: bool = False
    """Start from the pretrained weights that suit the model."""
    offline: bool = False
    """Download nothing."""
    seed: int = 42
    seeds: int = 0
    """Number of runs that differ only in their seed, which counts up from ``seed`` (from 0 if none is given); 0: one run."""
    nth_seed: int = 0
    """Number of this run among these, counted from 1; 0: each in turn."""
    deterministic: bool = False
    """Refuse operations whose results may differ from run to run (GPU); it stays on in this Python process."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: int = 0
    """Number of devices of this machine, one process each; 0: as many processes as were launched, usually one."""
    shard: bool = False
    """Give each of several processes one shard of the weights, gradients and moments (FSDP2, Zhao et al. 2023), for
    models that do not fit on one device; otherwise each process holds all of them."""
    amp: Literal["auto", "on", "off"] = "auto"
    """Mixed precision; auto: on if it is clearly faster for this model on this device. The speed is measured once and
    stored, separately for training and inference."""
    amp_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """Type for mixed precision; with ``amp`` auto, GPUs without bfloat16 always use float16."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Train with torch.compile; auto: on CUDA devices, if training is long enough to gain more time than compiling
    takes; a head that is trained alone is never compiled."""
    grad_checkpointing: bool = False
    """Keep only the input of each block for the backward pass, and compute the rest again (Chen et al. 2016): a
    fraction of the memory for up to a third more time, and the same result."""
    save_every: int = 0
    """Epochs between two checkpoints that are kept besides best and last; 0: keep none."""
    save_steps: int = 0
    """Steps between two saves of the training state, which is also saved after every epoch; 0: only then."""
    tensorboard: bool = False
    """Log curves for TensorBoard, in the run's folder."""
    wandb: bool = False
    """Log curves to Weights & Biases, to the account that is logged in on this machine, or as ``WANDB_MODE`` says."""
    log_steps: int = 50
    """Steps between two points of the logged curves, which also have a point for every epoch."""

    def __post_init__(self) -> None:
        check(
            not self.name.startswith((".", "-")) and not {"/", "\\"} & set(self.name),
            f"name = {self.name!r} has / or \\ in it, or begins with a dot or a dash",
            "--name RUN names the run, --output-dir the folder of all runs",
        )
        size = len(self.name.encode(errors="surrogateescape"))
        check(
            size <= _LONGEST_NAME,
            f"name = '{self.name[:20]}...' has {size} bytes, and the limit is {_LONGEST_NAME}",
            "a shorter one: --name RUN; tags can say more, `vit runs tag RUN TAG`",
        )
        check(self.seeds == 0 or self.seeds > 1, f"seeds = {self.seeds} is not 2 or more")
        for name in ("devices", "save_every", "save_steps", "nth_seed"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name):g} is negative")
        check(self.log_steps > 0, f"log_steps = {self.log_steps} is not positive")
        check(0 <= self.seed < 2**63, f"seed = {self.seed} is not from 0 to 2^63 - 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The complete configuration of a training run: the same configuration gives the same result."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelChoice = field(default_factory=ModelChoice)
    optim: OptimConfig = field(default_factory=OptimConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def sees_images_once(self) -> bool:
        """True if only the head is trained, without a teacher, on images that do not change from epoch to epoch."""
        is_head = self.optim.train_only == "head" and not (self.teacher.name or self.optim.progressive)
        return is_head and (self.augment.changes_nothing or bool(self.augment.feature_views))

    def check_together(self) -> None:
        """Check that the settings fit together; for complete configurations only, not for flags without their recipe.

        Raises:
            UsageError: two settings contradict each other.
        """
        data, optim = self.data, self.optim
        if data.val_split == "test":
            check(
                optim.keep == "last" and not (optim.ema or optim.swa_epochs),
                "data.val_split = 'test', but test images must choose neither an epoch nor an average of weights",
                "--set optim.keep=last --no-ema --swa-epochs 0",
            )
            check(
                not data.folds,
                "data.val_split = 'test', but each fold validates on its own images",
                "leave out --folds",
            )
        check(
            optim.keep == "best" or not optim.patience,
            f"optim.patience = {optim.patience} stops after the best epoch, but optim.keep = 'last' knows none",
            "--set optim.keep=best, or leave --patience out",
        )
        check(
            bool(data.folds) or not data.fold,
            f"data.fold = {data.fold} is one of several folds, but their number is missing",
            f"--folds {max(data.fold, 5)} --fold {data.fold} trains with fold {data.fold} held out",
        )
        check(
            data.fold <= data.folds,
            f"data.fold = {data.fold} is not one of {data.folds} folds",
            f"--folds {data.folds} --fold {data.folds} trains the last one",
        )
        check(
            not (data.folds and self.run.seeds),
            f"data.folds = {data.folds} and run.seeds = {self.run.seeds} each make a group of runs",
            "leave out one of them",
        )
        check(
            self.run.nth_seed <= self.run.seeds,
            f"run.nth_seed = {self.run.nth_seed} is more than run.seeds = {self.run.seeds}",
            "--seeds 5 trains five runs",
        )
        check(
            bool(self.run.name) or not self.run.overwrite,
            "run.overwrite replaces a run, but no run is named",
            "--name RUN --overwrite",
        )
        check(
            optim.swa_epochs < optim.epochs,
            f"optim.swa_epochs = {optim.swa_epochs} is not less than optim.epochs = {optim.epochs}",
            "a quarter of the epochs is usual",
        )
        check(
            optim.schedule != "one-cycle" or 10 * optim.swa_epochs <= 7 * optim.epochs,
            f"with optim.swa_epochs = {optim.swa_epochs} of {optim.epochs}, averaging would begin before the one-cycle"
            " schedule reaches its highest rate",
            "a quarter of the epochs is usual",
        )
        check(
            not (optim.ema and optim.swa_epochs),
            "optim.ema and optim.swa_epochs both average the weights",
            "--no-ema, or --swa-epochs 0",
        )
        if optim.optimizer == "schedule-free":
            check(
                optim.schedule == "constant",
                f"optim.schedule = {optim.schedule!r}, but schedule-free averages the weights in place of a schedule",
                "--sched constant, or --opt adamw",
            )
            check(
                not (optim.ema or optim.swa_epochs),
                "schedule-free averages the weights already, as optim.ema and optim.swa_epochs do",
                "--no-ema --swa-epochs 0, or --opt adamw",
            )
        check(
            optim.grad_accum_steps <= optim.batch_size,
            f"optim.grad_accum_steps = {optim.grad_accum_steps} is more than the {optim.batch_size} images of a batch",
            "a micro-batch has at least one image",
        )
        self._check_views()

    def _check_views(self) -> None:
        """Check that ``feature_views`` fits the other settings."""
        views = self.augment.feature_views
        if not views:
            return
        reasons = (
            (self.optim.train_only != "head", "the backbone is trained", "--freeze-backbone trains the head alone"),
            (bool(self.optim.progressive), "the images grow", "leave out --progressive"),
            (bool(self.teacher.name), "a teacher has to see the images in every step", "leave out one of them"),
            (
                bool(self.augment.mixup or self.augment.cutmix),
                "MixUp and CutMix make new images in every step",
                "turn them off",
            ),
        )
        for is_so, why, remedy in reasons:
            check(not is_so, f"--feature-views {views} needs features that stay the same, but {why}", remedy)
        check(
            views == 1 or not self.augment.changes_nothing,
            f"--feature-views {views}: nothing changes the images, so every view would be the same",
            "leave it out, or change them, for example --set augment.flip=0.5",
        )
