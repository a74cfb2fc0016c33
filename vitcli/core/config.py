"""The configuration, as frozen dataclasses: each field has one meaning and one default.

Sections come in the order in which training uses them: data, augmentation, model, optimisation, teacher, run. A value
that is not allowed raises UsageError from ``__post_init__``. ``config_files`` builds the classes from files and flags.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.errors import did_you_mean
from vitcli.core.model_config import ModelChoice, check, check_shares
from vitcli.core.teacher_config import TeacherConfig


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
    resize: Literal["auto", "crop", "squash"] = "auto"
    """Bring photos to the model's size by a centre crop, or by squashing; auto: as the pretrained weights expect, else
    by a crop."""
    crop_fraction: float = 0.0
    """Share of the short side that the centre crop keeps (photos only: images of one small size are used whole);
    0: as the pretrained weights expect, else 0.9."""
    normalise: Literal["auto", "dataset", "imagenet", "half", "none"] = "auto"
    """Mean and standard deviation: of the training split, of ImageNet, 0.5/0.5, or 0/1; auto: the values of the
    pretrained weights, else of the training split."""
    workers: int = 0
    """Number of threads that decode images; 0: one per core."""

    def __post_init__(self) -> None:
        check(
            0 < self.val_fraction < 1,
            f"val_fraction = {self.val_fraction} is not between 0 and 1",
            "validation images choose the best epoch, so they are needed: --val-fraction 0.1 is usual",
        )
        check(0 <= self.test_fraction < 1, f"test_fraction = {self.test_fraction} is not in [0, 1)")
        check(self.folds == 0 or self.folds > 1, f"folds = {self.folds} is not 2 or more")
        check(self.fold >= 0, f"fold = {self.fold} is negative")
        check(0 <= self.crop_fraction <= 1, f"crop_fraction = {self.crop_fraction} is not in [0, 1]")
        check(self.workers >= 0, f"workers = {self.workers} is negative")


USUAL_LR = {"muon": 0.01, "adamw": 0.002, "adam": 0.001, "sgd": 0.05, "schedule-free": 0.002}
"""Peak learning rate of each optimizer if none is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Settings of the optimiser, the loss, and averages of the weights."""

    epochs: int = 20
    batch_size: int = 128
    """Images per optimiser step."""
    grad_accum_steps: int = 1
    """Number of micro-batches per batch, to save memory; the step stays the same. 0 (``--batch-size auto``): the fewest
    that fit into memory (GPU) or the fastest number (CPU). If memory runs out, the number is raised."""
    optimizer: Literal["adamw", "adam", "sgd", "muon", "schedule-free"] = "muon"
    """muon: Muon (Jordan 2024) on the matrices of the blocks, AdamW on all else; adam: weight decay as L2 penalty;
    schedule-free: AdamW that averages its weights instead of using a schedule (Defazio et al. 2024)."""
    lr: float = 0.0
    """Peak learning rate; with muon, of the matrices; 0: the optimizer's usual rate (``USUAL_LR``)."""
    adamw_lr: float = 0.002
    """With muon, the peak learning rate of the weights that AdamW trains."""
    weight_decay: float = 0.01
    """Weight decay; never applied to norms, biases, positions and tokens."""
    momentum: float = 0.9
    """Momentum of sgd; muon always uses 0.95."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Betas of AdamW and Adam; with schedule-free, the first is the share of the average in the trained weights."""
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "cosine"
    """Learning-rate schedule; with schedule-free it must be constant."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up (one-cycle has its own warm-up)."""
    min_lr: float = 0.0
    """Learning rate at the end of the cosine schedule, as a share of the peak."""
    step_size: int = 2
    """Epochs between two drops of the step schedule."""
    gamma: float = 0.1
    """Factor on the learning rate at each drop of the step schedule."""
    label_smoothing: float = 0.0
    class_weights: str = ""
    """Weights of the classes in the training loss: ``balanced`` (one over their counts), ``effective`` (Cui et al.
    2019), or a JSON file that maps class names to numbers; empty: all equal."""
    clip_grad: float = 1.0
    """Maximum norm of the gradient; 0: no clipping."""
    layer_decay: float = 1.0
    """Factor on the learning rate per block below the head (Clark et al. 2020); 1: none."""
    head_lr: float = 0.0
    """Peak learning rate of the head; 0: the same as for the other weights."""
    train_only: str = ""
    """Weights trained besides the head: none (``head``), ``norm``, ``bias``, ``attention`` or the last N blocks
    (``last:N``); empty: all weights."""
    lora: int = 0
    """Rank of LoRA, which trains changes to frozen matrices (Hu et al. 2022); 0: train the matrices themselves."""
    ema: bool = False
    """Keep, validate and store an exponential moving average of the weights; the plain weights are validated too."""
    ema_decay: float = 0.999
    """Share of the average that is kept at every step; smaller at first: at most t / (t + 9) after t steps."""
    swa_epochs: int = 0
    """Number of last epochs with a constant learning rate whose weights are averaged (SWA, Izmailov et al. 2018); the
    average is kept if its validation score is better than that of the weights; 0: off."""
    progressive: float = 0.0
    """Share of height and width that images have at first; they grow to full size in four stages (Tan & Le 2021);
    0: full size from the start."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0: never."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "step_size"):
            check(getattr(self, name) > 0, f"{name} = {getattr(self, name)} is not positive")
        check(self.grad_accum_steps >= 0, f"grad_accum_steps = {self.grad_accum_steps} is negative")
        check(0 < self.gamma <= 1, f"gamma = {self.gamma} is not in (0, 1]")
        check(0 <= self.lr < float("inf"), f"lr = {self.lr} is not a learning rate above 0")
        for name in ("adamw_lr", "layer_decay"):
            check(0 < getattr(self, name) < float("inf"), f"{name} = {getattr(self, name)} is not positive")
        known = ("head", "norm", "bias", "attention", "last:N")
        check(
            self.train_only in {"", *known[:-1]} or re.fullmatch(r"last:[1-9]\d*", self.train_only) is not None,
            f"train_only = {self.train_only!r} is not a part of a model",
            did_you_mean(self.train_only, known, otherwise=f"expected: {', '.join(known)}"),
        )
        check(not (self.lora and self.train_only), "lora and train_only both say what is trained", "leave one out")
        for name in ("head_lr", "lora", "weight_decay", "warmup_epochs", "clip_grad", "patience"):
            value = getattr(self, name)
            check(0 <= value < float("inf"), f"{name} = {value} is negative or infinite")
        check(
            self.swa_epochs == 0 or self.swa_epochs > 1,
            f"swa_epochs = {self.swa_epochs} is not 2 or more",
            "a quarter of the epochs is usual",
        )
        check(
            0 <= self.progressive < 1,
            f"progressive = {self.progressive} is not in [0, 1)",
            "--progressive 0.5 begins with a quarter of the pixels",
        )
        check_shares(self, "momentum", "min_lr", "label_smoothing", "ema_decay")
        check(all(0 <= beta < 1 for beta in self.betas), f"betas = {self.betas} are not in [0, 1)")

    @property
    def peak_lr(self) -> float:
        """The peak learning rate that was given, else the optimizer's usual rate."""
        return self.lr or USUAL_LR[self.optimizer]

    @property
    def lr_of_rest(self) -> float:
        """The peak learning rate of the weights that muon does not train; without muon, of all weights."""
        return self.adamw_lr if self.optimizer == "muon" else self.peak_lr

    @property
    def peak_lrs(self) -> dict[str, float]:
        """The peak learning rate of each kind of parameter, before layer decay; empty if all have the same rate."""
        rates = {"rest": self.lr_of_rest}
        if self.optimizer == "muon":
            rates = {"matrices": self.peak_lr, **rates}
        if self.head_lr:
            rates["head"] = self.head_lr
        return rates if len(rates) > 1 else {}


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
    deterministic: bool = False
    """Refuse operations whose results may differ from run to run (GPU)."""
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
        is_folder_name = not self.name.startswith(".") and not {"/", "\\"} & set(self.name)
        check(is_folder_name, f"name = {self.name!r} is not the name of a folder", "--output-dir says where runs go")
        for name in ("devices", "save_every", "save_steps"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")
        check(self.log_steps > 0, f"log_steps = {self.log_steps} is not positive")
        check(0 <= self.seed < 2**63, f"seed = {self.seed} is not in [0, 2^63)")


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
        check(
            data.fold <= data.folds,
            f"fold = {data.fold} is not one of {data.folds} folds",
            "--folds 5 --fold 1 trains the first of five",
        )
        check(
            bool(self.run.name) or not self.run.overwrite,
            "overwrite replaces a run, but no run is named",
            "--name RUN --overwrite",
        )
        check(
            optim.swa_epochs < optim.epochs,
            f"swa_epochs = {optim.swa_epochs} is not less than epochs = {optim.epochs}",
            "a quarter of the epochs is usual",
        )
        check(
            not (optim.ema and optim.swa_epochs),
            "ema and swa_epochs both average the weights",
            "--no-ema, or --swa-epochs 0",
        )
        if optim.optimizer == "schedule-free":
            check(
                optim.schedule == "constant",
                f"schedule = {optim.schedule!r}, but schedule-free averages the weights in place of a schedule",
                "--sched constant, or --opt adamw",
            )
            check(
                not (optim.ema or optim.swa_epochs),
                "schedule-free averages the weights already, as ema and swa_epochs do",
                "--no-ema --swa-epochs 0, or --opt adamw",
            )
        check(
            optim.grad_accum_steps <= optim.batch_size,
            f"a batch of {optim.batch_size} cannot be cut into {optim.grad_accum_steps} micro-batches",
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
