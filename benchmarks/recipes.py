"""Train with a recipe for several seeds, evaluate on the test split, and print accuracies and times.

    uv run python benchmarks/recipes.py digits --seeds 0 1 2 3 4
    uv run python benchmarks/recipes.py shapes --seeds 0 1 2
    uv run python benchmarks/recipes.py mnist
    uv run python benchmarks/recipes.py PATH/TO/cifar10 -- --recipe small-images --epochs 10

Arguments after ``--`` go to ``vit train``. Every run is a separate process. The time is that of training and
validation, without imports and data preparation.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any


def vit(*words: str) -> Any:
    """Run a subcommand, and return its JSON output."""
    answer = subprocess.run(
        [sys.executable, "-m", "vitcli", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(answer.stdout)


def main() -> None:
    """Train with every seed, and print accuracies and times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments, options = parser.parse_args(words[:end]), words[end + 1 :]
    accuracies, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            here = ("--output-dir", folder)
            run = vit("train", arguments.dataset, "--seed", str(seed), *here, *options)
            judged = vit("eval", "--model", run["run"], *here)
            accuracies.append(100 * judged["metrics"]["top1"])
            seconds.append(run["seconds"])
            best = run["best"]
            print(
                f"seed {seed}: test {accuracies[-1]:.2f} % of {judged['metrics']['images']:,}, "
                f"validation {100 * best['val_accuracy']:.2f} % (epoch {best['epoch']} of {run['epochs']}), "
                f"{seconds[-1]:.1f} s, {run['parameters']:,} parameters",
                flush=True,
            )
    print(
        f"{arguments.dataset}: mean {statistics.mean(accuracies):.2f} %, least {min(accuracies):.2f} %, "
        f"longest {max(seconds):.1f} s, {os.cpu_count()} CPU cores"
    )


if __name__ == "__main__":
    main()
