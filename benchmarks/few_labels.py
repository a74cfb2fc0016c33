"""Train on few labelled photos, with and without pretraining on many photos without labels.

    uv run python benchmarks/few_labels.py PATH/TO/Dataset
    uv run python benchmarks/few_labels.py PATH/TO/Dataset --labelled 10 --epochs 300 --seeds 0 1 2 3 4

The folder has one subfolder per class. Of each class, some photos keep their labels, some are for testing, and the others
lose their labels. `vit pretrain` learns from the photos that are not for testing, without their labels; then `vit train`
starts from its weights, and once more from random weights, with its default settings and the same seeds.

``benchmarks/results/few-labels-NAME.json`` keeps what is done, so that it can be continued.
"""

import argparse
import json
import shutil
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from recipes import FACTS, RESULTS, vit


def divide(source: Path, folder: Path, *, labelled: int, tested: int) -> int:
    """Copy the photos into ``few/train``, ``few/test`` and ``unlabelled``; return the number of those without labels."""
    random, number = np.random.default_rng(0), 0
    for group in sorted(path for path in source.iterdir() if path.is_dir()):
        files = sorted(path for path in group.iterdir() if path.is_file())
        order = random.permutation(len(files)).tolist()
        parts = {"train": order[:labelled], "test": order[labelled : labelled + tested]}
        for part, members in parts.items():
            (folder / "few" / part / group.name).mkdir(parents=True, exist_ok=True)
            for at in members:
                shutil.copy(files[at], folder / "few" / part / group.name)
        (folder / "unlabelled").mkdir(exist_ok=True)
        for at in (*parts["train"], *order[labelled + tested :]):
            number += 1
            shutil.copy(files[at], folder / "unlabelled" / f"{number:06d}{files[at].suffix}")
    return number


def accuracy(folder: Path, seed: int, options: list[str], name: str) -> tuple[float, float]:
    """Train with one seed; return the test accuracy, 0..1, and the seconds of training."""
    where = ["--name", name, "--output-dir", str(folder / "runs"), *["--overwrite"] * (folder / "runs" / name).exists()]
    trained = vit("train", str(folder / "few"), "--seed", str(seed), *where, *options)
    judged = vit("eval", "--model", str(folder / "runs" / name))
    return judged["metrics"]["top1"], round(trained["seconds"], 1)


def main() -> None:
    """Divide the photos, pretrain, train with every seed that has no result yet, and print both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--labelled", type=int, default=23, help="labelled photos of each class")
    parser.add_argument("--tested", type=int, default=41, help="test photos of each class")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of pretraining")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", help="name of the result; without it, the folder's")
    parser.add_argument("--folder", type=Path, default=Path("experiments") / "few-labels", help="for photos and runs")
    given = parser.parse_args()
    name = given.name or given.photos.resolve().name.lower()
    folder, file = given.folder / name, RESULTS / f"few-labels-{name}.json"
    asked = {each: getattr(given, each) for each in ("labelled", "tested", "epochs")}
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"options": asked}
    if stored["options"] != asked:
        parser.error(f"{file} has results with other options, {stored['options']}: choose another --name")
    if not folder.exists():
        begun = folder.with_name(f".{folder.name}")  # so that a division that was stopped does not count
        shutil.rmtree(begun, ignore_errors=True)
        divide(given.photos, begun, labelled=given.labelled, tested=given.tested)
        begun.rename(folder)
    weights = folder / "runs" / "pretrained"
    if "pretraining" not in stored:
        where = ["--name", "pretrained", "--output-dir", str(folder / "runs"), "--epochs", str(given.epochs)]
        words = ["--resume", str(weights)] if weights.exists() else [str(folder / "unlabelled"), *where]
        found = vit("pretrain", *words)
        stored["pretraining"] = {name: value for name, value in found.items() if name not in {"path", "weights"}}
        file.write_text(json.dumps(stored, indent=1) + "\n")
    machine = vit("env")
    for seed in given.seeds:
        for how, options in {"pretrained": ["--init-from", str(weights)], "from scratch": []}.items():
            results = stored.setdefault(how, {})
            if str(seed) not in results:
                results[str(seed)] = accuracy(folder, seed, options, f"{how.replace(' ', '-')}-{seed}")
                stored |= {
                    "date": datetime.now(UTC).date().isoformat(),
                    "machine": {fact: machine[fact] for fact in FACTS},
                    "versions": {"vit": machine["vit"], "torch": machine["versions"]["torch"]},
                }
                file.write_text(json.dumps(stored, indent=1) + "\n")
    for how in ("from scratch", "pretrained"):
        shares = [share for share, _ in stored[how].values()]
        each = ", ".join(f"{100 * share:.2f}" for share in shares)
        print(f"{how:<12} {100 * statistics.mean(shares):.2f} % of the test photos on average ({each})")


if __name__ == "__main__":
    main()
