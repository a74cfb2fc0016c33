"""The configuration of optimisation: optimiser, schedule, loss, and averages of the weights."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.model_config import check, check_numbers, check_shares

USUAL_LR = {"muon": 0.01, "adamw": 0.002, "adam": 0.001, "sgd": 0.05, "schedule-free": 0.002}
"""Peak learning rate of each optimizer if none is given."""


_MOST_EPOCHS = 10**6
FEW_IMAGES_EPOCHS = 300
"""The most epochs that ``min_images`` leads to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Settings of the optimiser, the loss, and averages of the weights."""

    epochs: int = 20
    min_images: int = 0
    """Images to train on at least, in all epochs together: a recipe's epochs are raised for small data sets, by up to
    300 epochs; 0, or if epochs are given: exactly ``epochs``."""
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
    """Weight decay; not applied to norms, biases, positions and tokens."""
    decay_all: bool = False
    """Apply weight decay to norms, biases, positions and tokens too."""
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
    keep: Literal["best", "last"] = "best"
    """The epoch whose weights are kept: the best one on the validation images, or the last one."""
    patience: int = 0
    """Stop after this many epochs without a better validation score; 0: never."""

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("epochs", "batch_size", "step_size"):
            check(getattr(self, name) > 0, f"{name} = {getattr(self, name)} is not positive")
        for name in ("epochs", "warmup_epochs", "swa_epochs", "patience"):
            check(getattr(self, name) <= _MOST_EPOCHS, f"{name} = {getattr(self, name):g} is above {_MOST_EPOCHS:,}")
        for name in ("grad_accum_steps", "min_images"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative")
        for name in ("gamma", "layer_decay"):
            check(0 < getattr(self, name) <= 1, f"{name} = {getattr(self, name):g} is not above 0 and at most 1")
        check(0 <= self.lr < float("inf"), f"lr = {self.lr:g} is not a learning rate above 0")
        check(0 < self.adamw_lr < float("inf"), f"adamw_lr = {self.adamw_lr:g} is not a learning rate above 0")
        known = ("head", "norm", "bias", "attention", "last:N")
        if self.train_only not in {"", *known[:-1]} and not re.fullmatch(r"last:[1-9]\d*", self.train_only):
            raise UsageError(
                f"train_only = {self.train_only!r} is not a part of a model",
                hint=did_you_mean(self.train_only, known, otherwise=f"expected: {', '.join(known)}"),
            )
        check(
            not (self.lora and self.train_only),
            "optim.lora and optim.train_only both say what is trained",
            "leave one out",
        )
        for name in ("head_lr", "lora", "weight_decay", "warmup_epochs", "clip_grad", "patience"):
            value = getattr(self, name)
            check(0 <= value < float("inf"), f"{name} = {value:g} is negative or infinite")
        check(
            self.swa_epochs == 0 or self.swa_epochs > 1,
            f"swa_epochs = {self.swa_epochs:g} is not 2 or more",
            "a quarter of the epochs is usual",
        )
        check(
            0 <= self.progressive < 1,
            f"progressive = {self.progressive:g} is not at least 0 and less than 1",
            "--progressive 0.5 begins with a quarter of the pixels",
        )
        check_shares(self, "momentum", "min_lr", "label_smoothing", "ema_decay")
        check(all(0 <= beta < 1 for beta in self.betas), f"betas = {self.betas} are not at least 0 and less than 1")

    @property
    def warmup(self) -> float:
        """The epochs of linear warm-up: at most half of all, and none whose weights are averaged.

        One-cycle has a warm-up of its own, and ``warmup_epochs`` stays.
        """
        most = min(self.epochs / 2, max(self.epochs - self.swa_epochs, 0))
        return self.warmup_epochs if self.schedule == "one-cycle" else min(self.warmup_epochs, most)

    def epochs_for(self, images: int) -> int:
        """Compute the epochs in which training sees ``min_images``: at least ``epochs``, and at most 300 if these are fewer."""
        return max(self.epochs, min(math.ceil(self.min_images / max(images, 1)), FEW_IMAGES_EPOCHS))

    @property
    def peak_lr(self) -> float:
        """The peak learning rate that was given, else the optimizer's usual rate."""
        return self.lr or USUAL_LR[self.optimizer]

    @property
    def lr_of_rest(self) -> float:
        """The peak learning rate of the weights that muon does not train; without muon, of all weights."""
        return self.adamw_lr if self.optimizer == "muon" else self.peak_lr

    @property
    def slower(self) -> str:
        """The options to try if the learning rate is too high: a tenth of it, or the usual rate if that is lower.

        The rates of the head, and with muon of the other weights, are lowered to a tenth.
        """
        rate = min(self.peak_lr / 10, USUAL_LR[self.optimizer])
        others = {"adamw_lr": self.adamw_lr * (self.optimizer == "muon"), "head_lr": self.head_lr}
        more = [f" --set optim.{name}={each / 10:.2g}" for name, each in others.items() if each]
        return f"--lr {rate:.2g}{''.join(more)}"

    @property
    def peak_lrs(self) -> dict[str, float]:
        """The peak learning rate of each kind of parameter, before layer decay; empty if all have the same rate."""
        rates = {"rest": self.lr_of_rest}
        if self.optimizer == "muon":
            rates = {"matrices": self.peak_lr, **rates}
        if self.head_lr:
            rates["head"] = self.head_lr
        return rates if len(rates) > 1 else {}
