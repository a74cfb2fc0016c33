"""The configuration, as frozen dataclasses: one field, one meaning, one default.

The order is that of the road: data, augmentation, model, optimisation, teacher, run. A value that does not fit raises
UsageError from ``__post_init__``; how settings from files and flags become these classes is in ``config_files``.
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
    """The choice of images, and the way in which they become tensors."""

    name: str = ""
    """A data set's name or the path of a folder of images; empty: the one downloaded last, else the digits."""
    dir: str = ""
    """Where data sets are kept; empty: ``$VIT_DATA_DIR``, else the user's cache folder."""
    labels: str = ""
    """A CSV file or a list of image names and labels; empty: the one in the folder, if there are no class folders."""
    image_column: str = ""
    """Empty: the column whose values are names of images."""
    label_column: str = ""
    """Empty: the one that is called so, or the only other one."""
    label_map: str = ""
    """A JSON file from labels to class names; empty: the one in the folder that has every label."""
    val_fraction: float = 0.1
    """Share of the training split held out where a data set has no validation split."""
    test_fraction: float = 0.2
    """Share held out for testing where a data set has no splits at all (the same images for every seed); 0: none."""
    folds: int = 0
    """Parts of the training split that validate in turn, stratified; 0: ``val_fraction`` is held out."""
    fold: int = 0
    """The part that validates, from 1; 0: each in turn."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What becomes of images that are missing, unreadable or labelled twice."""
    cache: Literal["auto", "ram", "disk", "off"] = "auto"
    """Where decoded photos are kept: in memory, in a file, or nowhere; auto: in a file, if there is room."""
    balanced_sampling: bool = False
    """Every class is drawn equally often in an epoch."""
    resize: Literal["auto", "crop", "squash"] = "auto"
    """Photos become the model's size by a centre crop, or by squashing; auto: as the weights that training starts
    from were used to, else by a crop."""
    crop_fraction: float = 0.0
    """Share of the short side that the centre crop keeps (photos only: images of one small size are used whole);
    0: as with the weights, else 0.9."""
    normalise: Literal["auto", "dataset", "imagenet", "half", "none"] = "auto"
    """Mean and standard deviation: of the training split, of ImageNet, 0.5/0.5, or 0/1; auto: those of the weights
    that training starts from, else of the training split."""
    workers: int = 0
    """Threads that decode images; 0: one per core."""

    def __post_init__(self) -> None:
        check(
            0 < self.val_fraction < 1,
            f"val_fraction = {self.val_fraction} is not between 0 and 1",
            "validation images choose the best epoch, so there have to be some: --val-fraction 0.1 is usual",
        )
        check(0 <= self.test_fraction < 1, f"test_fraction = {self.test_fraction} is not in [0, 1)")
        check(self.folds == 0 or self.folds > 1, f"folds = {self.folds} is not 2 or more")
        check(self.fold >= 0, f"fold = {self.fold} is negative")
        check(0 <= self.crop_fraction <= 1, f"crop_fraction = {self.crop_fraction} is not in [0, 1]")
        check(self.workers >= 0, f"workers = {self.workers} is negative")


USUAL_LR = {"muon": 0.01, "adamw": 0.002, "adam": 0.001, "sgd": 0.05, "schedule-free": 0.002}
"""Peak learning rates that suit each optimizer where none is given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """The optimisation of the weights."""

    epochs: int = 20
    batch_size: int = 128
    """Images per optimiser step."""
    grad_accum_steps: int = 1
    """Parts into which a batch is cut to save memory; the step stays the same. 0: as few as fit into the memory of a GPU,
    on a CPU those that are fastest; ``--batch-size auto`` says so. Where memory does not suffice, there are more."""
    optimizer: Literal["adamw", "adam", "sgd", "muon", "schedule-free"] = "muon"
    """muon: Muon (Jordan 2024) on the matrices of the blocks, AdamW on all else; adam: weight decay as L2 penalty;
    schedule-free: AdamW that averages its weights in place of a schedule (Defazio et al. 2024)."""
    lr: float = 0.0
    """Peak learning rate; with muon, that of the matrices; 0: the optimizer's usual one (``USUAL_LR``)."""
    adamw_lr: float = 0.002
    """With muon, the peak learning rate of all else."""
    weight_decay: float = 0.01
    """Never on norms, biases, positions and tokens."""
    momentum: float = 0.9
    """Of sgd; muon's is 0.95."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of adam and adamw; with schedule-free, the first one is the average's share in the weights that learn."""
    schedule: Literal["constant", "step", "cosine", "one-cycle"] = "cosine"
    """With schedule-free, constant."""
    warmup_epochs: float = 1.0
    """Epochs of linear warm-up (one-cycle has its own)."""
    min_lr: float = 0.0
    """Where cosine ends, as a share of the peak."""
    step_size: int = 2
    """Epochs between the drops of the step schedule."""
    gamma: float = 0.1
    """Factor of each drop."""
    label_smoothing: float = 0.0
    class_weights: str = ""
    """Weights of the classes in the training loss: ``balanced`` (one over their counts), ``effective`` (Cui et al.
    2019), or a JSON file from class names to numbers; empty: all alike."""
    clip_grad: float = 1.0
    """Greatest norm of the gradient; 0: no clipping."""
    layer_decay: float = 1.0
    """Factor on the learning rate per block below the head (Clark et al. 2020); 1: none."""
    head_lr: float = 0.0
    """Peak learning rate of the head; 0: as all else."""
    train_only: str = ""
    """What is trained besides the head: nothing else (``head``), ``norm``, ``bias``, ``attention`` or the last N
    blocks (``last:N``); empty: everything."""
    lora: int = 0
    """Rank of the changes to frozen matrices (Hu et al. 2022); 0: the matrices themselves are trained."""
    ema: bool = False
    """Keep, evaluate and store an exponential moving average of the weights; they are evaluated beside it."""
    ema_decay: float = 0.999
    """Share of the average that stays at every step; less at first, as after t steps it is t / (t + 9) at the most."""
    swa_epochs: int = 0
    """The last epochs learn at a constant rate, and their weights are averaged (Izmailov et al. 2018, SWA); the average
    is kept where it validates better than they do; 0: not."""
    progressive: float = 0.0
    """Share of height and width that images have at first; in four steps they grow to the whole (Tan & Le 2021); 0: they
    always are whole."""
    patience: int = 0
    """Stop after this many epochs without a better one; 0: never."""

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
        """The peak learning rate, given or usual."""
        return self.lr or USUAL_LR[self.optimizer]

    @property
    def lr_of_rest(self) -> float:
        """The peak learning rate of what muon does not train; without muon, of everything."""
        return self.adamw_lr if self.optimizer == "muon" else self.peak_lr

    @property
    def peak_lrs(self) -> dict[str, float]:
        """The peak learning rate of each kind of parameter, where they differ; layer decay apart."""
        rates = {"rest": self.lr_of_rest}
        if self.optimizer == "muon":
            rates = {"matrices": self.peak_lr, **rates}
        if self.head_lr:
            rates["head"] = self.head_lr
        return rates if len(rates) > 1 else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The place and the device of a run, and what is kept of it."""

    name: str = ""
    """The run's name; empty: made of data set, model and a number."""
    output_dir: str = "experiments"
    overwrite: bool = False
    """Replace a run of the same name."""
    recipe: str = ""
    """The recipe that the settings started from."""
    init_from: str = ""
    """What training starts from: a run, a file or folder of weights, the name of pretrained ones, or an address."""
    pretrained: bool = False
    """Start from the pretrained weights that there are for the model."""
    offline: bool = False
    """Fetch nothing."""
    seed: int = 42
    deterministic: bool = False
    """Refuse operations whose result may differ from run to run (GPU)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    devices: int = 0
    """Of this machine, each with a process of its own; 0: as many processes as were launched, usually one."""
    shard: bool = False
    """Each of several processes holds a part of the weights, gradients and moments (FSDP2, Zhao et al. 2023), for models
    that do not fit on one device; else each holds all of them."""
    amp: Literal["auto", "on", "off"] = "auto"
    """Mixed precision; auto: where it is clearly faster on this device for this model, measured once and remembered;
    for training and for inference apart."""
    amp_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """With auto, GPUs without bfloat16 take float16 in any case."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Train through torch.compile; auto: on CUDA devices, where training is long enough to win back the time;
    a head alone never is compiled."""
    grad_checkpointing: bool = False
    """Keep only what enters each block for the backward pass, and compute the rest once more (Chen et al. 2016): a
    fraction of the memory for up to a third more time, and the same result."""
    save_every: int = 0
    """Keep a checkpoint every this many epochs, besides best and last; 0: none."""
    save_steps: int = 0
    """Save the training state every this many steps, besides every epoch; 0: not."""
    tensorboard: bool = False
    """Log curves for TensorBoard, below the run."""
    wandb: bool = False
    """Log curves to Weights & Biases: to the account that is logged in there, or as ``WANDB_MODE`` says."""
    log_steps: int = 50
    """Steps between two points of these curves, besides those of every epoch."""

    def __post_init__(self) -> None:
        is_folder_name = not self.name.startswith(".") and not {"/", "\\"} & set(self.name)
        check(is_folder_name, f"name = {self.name!r} is not the name of a folder", "--output-dir says where runs go")
        for name in ("devices", "save_every", "save_steps"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")
        check(self.log_steps > 0, f"log_steps = {self.log_steps} is not positive")
        check(0 <= self.seed < 2**63, f"seed = {self.seed} is not in [0, 2^63)")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """All of a training run: give the same one again and get the same result."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelChoice = field(default_factory=ModelChoice)
    optim: OptimConfig = field(default_factory=OptimConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def sees_images_once(self) -> bool:
        """Tell whether only the head is trained, without a teacher, on images that do not change from epoch to epoch."""
        is_head = self.optim.train_only == "head" and not (self.teacher.name or self.optim.progressive)
        return is_head and (self.augment.changes_nothing or bool(self.augment.feature_views))

    def check_together(self) -> None:
        """See that settings go together; a part of a configuration, such as flags without their recipe, may not yet.

        Raises:
            UsageError: two of them do not.
        """
        data, optim = self.data, self.optim
        check(
            data.fold <= data.folds,
            f"fold = {data.fold} is not one of {data.folds} folds",
            "--folds 5 --fold 1 trains the first of five",
        )
        check(
            bool(self.run.name) or not self.run.overwrite,
            "overwrite replaces a run, and none is named",
            "--name RUN --overwrite",
        )
        check(
            optim.swa_epochs < optim.epochs,
            f"swa_epochs = {optim.swa_epochs} is not less than all of {optim.epochs} epochs",
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
            f"a batch of {optim.batch_size} cannot be cut into {optim.grad_accum_steps} parts",
        )
        self._check_views()

    def _check_views(self) -> None:
        """See that views of images are used where they are asked for."""
        views = self.augment.feature_views
        if not views:
            return
        reasons = (
            (self.optim.train_only != "head", "the backbone is trained", "--freeze-backbone trains the head alone"),
            (bool(self.optim.progressive), "the images grow", "leave out --progressive"),
            (bool(self.teacher.name), "a teacher has to see the images in every step", "leave out one of both"),
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
