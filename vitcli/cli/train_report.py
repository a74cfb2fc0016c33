"""What ``vit train`` shows when it is done."""

from typing import TYPE_CHECKING

from vitcli.cli.console import duration, percent, print_facts, stderr
from vitcli.cli.options import EXPERIMENTS

if TYPE_CHECKING:
    from vitcli.workflows.folds import FoldsResult
    from vitcli.workflows.train import TrainResult


def show_run(result: "TrainResult") -> None:
    """One run, and what to do with it."""
    best = result.best
    print_facts(
        {
            "run": str(result.path),
            "data": f"{result.dataset}: {result.train_images:,} images to train, {result.val_images:,} to validate",
            "model": f"{result.model}, {result.parameters:,} parameters",
            "best epoch": f"{best.epoch} of {result.epochs}",
            "validation accuracy": percent(best.val_accuracy),
            "validation loss": f"{best.val_loss:.4f}",
            "time": f"{duration(result.seconds)} on {result.device}",
        }
    )
    folder = result.path.parent
    chosen = "" if folder == EXPERIMENTS else f" --output-dir {folder}"
    stderr().print(
        f"\nnext: [bold]vit eval{chosen}[/]  judges it on images that it has not seen"
        f"\n      [bold]vit predict{chosen} IMAGE[/]"
        f"\n      [bold]vit attention-map{chosen} IMAGE[/]"
    )


def show_folds(result: "FoldsResult") -> None:
    """The runs of a cross-validation, and what they come to."""
    best = {each.run: percent(each.best.val_accuracy) for each in result.folds}
    mean = f"{percent(result.val_accuracy)} ± {100 * result.val_accuracy_spread:.2f}"
    print_facts({**best, "mean ± deviation": mean, "runs": str(result.path)})
    folder = result.path.parent
    chosen = "" if folder == EXPERIMENTS else f" --output-dir {folder}"
    stderr().print(f"\nnext: [bold]vit predict{chosen} --model {result.run} IMAGE[/]  averages the folds")
