"""Train with a recipe and with one change to it at a time, and say what each part of the recipe is worth.

    uv run python benchmarks/ablation.py PATH/TO/cifar10 --recipe cifar10 --epochs 4
    uv run python benchmarks/ablation.py PATH/TO/cifar10 --only "AdamW" "no mirror images"

Accuracies are of validation images; the test images are not looked at. Short trainings flatter what learns fast: what keeps a
long training from learning its images by heart costs accuracy here.

``benchmarks/results/ablation-NAME.json`` keeps the accuracy of every change and seed, so that a long comparison can be done in
pieces. The difference is the mean over the seeds that both have; without a change, it would be off by about the standard error
that is printed below the table.
"""

import argparse
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recipes import FACTS, RESULTS, vit

RECIPE = "as it is"
CHANGES: dict[str, tuple[str, ...]] = {
    RECIPE: (),
    "AdamW": ("optim.optimizer=adamw", "optim.lr=0.002"),
    "no depthwise convolution in the MLP": ("model.mlp_conv=0",),
    "learned positions": ("model.positions=learned",),
    "patch weights begin as small as all others": ("model.patch_init_std=0.02",),
    "no warm-up": ("optim.warmup_epochs=0",),
    "no label smoothing": ("optim.label_smoothing=0",),
    "half the learning rate": ("optim.lr=0.005", "optim.adamw_lr=0.0015"),
    "twice the learning rate": ("optim.lr=0.02", "optim.adamw_lr=0.006"),
    "weight decay 0.01": ("optim.weight_decay=0.01",),
    "batches of 256": ("optim.batch_size=256",),
    "average of the weights (EMA)": ("optim.ema=true", "optim.ema_decay=0.998"),
    "no mirror images": ("augment.flip=0",),
    "no shifted crops": ("augment.crop_padding=0",),
    "TrivialAugment": ("augment.policy=trivial",),
    "random erasing": ("augment.erase=0.25",),
    "MixUp": ("augment.mixup=0.2",),
    "four registers": ("model.num_registers=4",),
    "LayerScale": ("model.layer_scale=0.1",),
    "stochastic depth": ("model.drop_path=0.05",),
}
"""Settings by the name of the change."""


def trained_with(change: str, dataset: str, seed: int, epochs: int, options: list[str], runs: Path) -> Any:
    """Train with a change, and return the result as JSON."""
    words = [word for setting in CHANGES[change] for word in ("--set", setting)]
    name = f"ablation-{list(CHANGES).index(change):02d}-seed-{seed}"
    where = ["--name", name, "--output-dir", str(runs), *["--overwrite"] * (runs / name).exists()]
    return vit("train", dataset, "--epochs", str(epochs), "--seed", str(seed), *where, *options, *words)


def show(stored: dict[str, Any]) -> None:
    """Print a table: each change with its accuracy and the difference that it makes."""
    usual = stored["accuracies"][RECIPE]
    print(f"{'change':<45} accuracy  difference  parameters")
    for change, found in stored["accuracies"].items():
        both = [seed for seed in found if seed in usual]
        accuracy = sum(found[seed] for seed in both) / len(both)
        difference = accuracy - sum(usual[seed] for seed in both) / len(both)
        print(f"{change:<45} {100 * accuracy:6.2f} % {100 * difference:+8.2f}    {stored['parameters'][change]:>9,}")
    share, images = sum(usual.values()) / len(usual), stored["val_images"]
    error = math.sqrt(2 * share * (1 - share) / images / len(usual))
    print(
        f"{images:,} validation images, {len(usual)} seed(s): standard error of a difference about {100 * error:.2f} points"
    )


def main() -> None:
    """Train with every change and seed that has no result yet, store the results, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--val-fraction", type=float, default=0.1)
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES), metavar="CHANGE")
    parser.add_argument("--runs", type=Path, default=Path("experiments") / "ablation", help="folder of the runs")
    given = parser.parse_args()
    options = ["--recipe", given.recipe, "--val-fraction", str(given.val_fraction)]
    file = RESULTS / f"ablation-{given.recipe}.json"
    begun = {"options": options, "epochs": given.epochs, "accuracies": {}, "parameters": {}, "seconds": {}}
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else begun
    if (stored["options"], stored["epochs"]) != (options, given.epochs):
        parser.error(f"{file} has results with {stored['options']} and {stored['epochs']} epochs: move it away first")
    for seed in given.seeds:
        for change in dict.fromkeys([RECIPE, *given.only]):
            found = stored["accuracies"].setdefault(change, {})
            if str(seed) in found:
                continue
            trained = trained_with(change, given.dataset, seed, given.epochs, options, given.runs)
            found[str(seed)] = trained["best"]["val_accuracy"]
            stored["parameters"][change] = trained["parameters"]
            stored["seconds"].setdefault(change, {})[str(seed)] = round(trained["seconds"], 1)
            machine = vit("env")
            stored |= {
                "val_images": trained["val_images"],
                "date": datetime.now(UTC).date().isoformat(),
                "machine": {fact: machine[fact] for fact in FACTS},
                "versions": {"vit": machine["vit"], "torch": machine["versions"]["torch"]},
            }
            file.write_text(json.dumps(stored, indent=1) + "\n")
    show(stored)


if __name__ == "__main__":
    main()
