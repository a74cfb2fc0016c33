"""Train with a recipe for several seeds, evaluate on the test split, and store accuracies and times as JSON.

    uv run python benchmarks/recipes.py digits --seeds 0 1 2 3 4
    uv run python benchmarks/recipes.py mnist --name mnist-classic -- --recipe mnist-classic
    uv run python benchmarks/recipes.py PATH/TO/cifar10 --name cifar10 -- --recipe cifar10

Arguments after ``--`` go to ``vit train``. Every run is a separate process. The time is that of training and
validation, without imports and data preparation; the CPU time is that of the whole command, of its last piece if it was resumed.

``benchmarks/results/NAME.json`` gets the result of each seed, its mean and spread, the machine and the versions. Seeds
that are in it are not trained again, and a run that was stopped is resumed, so a long benchmark can be done in pieces.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FACTS = ("processor", "cores", "instructions", "bfloat16", "threads", "gpus", "python")


def vit(*words: str) -> Any:
    """Run a subcommand, and return its JSON output."""
    answer = subprocess.run(
        [sys.executable, "-m", "vitcli", *words, "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(answer.stdout)


def cpu_seconds() -> float:
    """Return the CPU time of all processes that have ended, which other work on the machine hardly changes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def settings_of(run: Path) -> str:
    """Return a short hash of the settings of a run that a recipe decides on."""
    config = json.loads((run / "config.json").read_text())
    chosen = {section: config[section] for section in ("model", "augment", "optim")}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def train(name: str, dataset: str, seed: int, options: list[str], runs: Path) -> dict[str, Any]:
    """Train and evaluate with one seed; a run that was stopped is resumed."""
    run = f"{name}-seed-{seed}"
    before = cpu_seconds()
    if was_stopped := (runs / run / "checkpoints" / "state.safetensors").exists():
        trained = vit("train", "--resume", str(runs / run))
    else:
        overwrite = ["--overwrite"] if (runs / run).exists() else []
        where = ["--seed", str(seed), "--name", run, "--output-dir", str(runs), *overwrite]
        trained = vit("train", dataset, *where, *options)
    used = None if was_stopped else round(cpu_seconds() - before, 1)  # of its other parts, the time is not known
    judged = vit("eval", "--model", str(runs / run))
    machine = vit("env")
    return {
        "seed": seed,
        "test_accuracy": judged["metrics"]["top1"],
        "test_images": judged["metrics"]["images"],
        "held_out": judged["held_out"],
        "val_accuracy": trained["best"]["val_accuracy"],
        "epoch": trained["best"]["epoch"],
        "epochs": trained["epochs"],
        "seconds": round(trained["seconds"], 1),
        "cpu_seconds": used,
        "parameters": trained["parameters"],
        "device": trained["device"],
        "settings": settings_of(runs / run),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {fact: machine[fact] for fact in FACTS},
        "versions": {"vit": machine["vit"]} | {each: machine["versions"][each] for each in ("torch", "torchvision")},
    }


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the test accuracies of all seeds."""
    accuracies = [result["test_accuracy"] for result in results]
    return {
        "seeds": len(results),
        "mean": round(statistics.mean(accuracies), 6),
        "standard_deviation": round(statistics.stdev(accuracies), 6) if len(results) > 1 else None,
        "least": min(accuracies),
        "longest_seconds": max(result["seconds"] for result in results),
    }


def main() -> None:
    """Train with every seed that has no result yet, store the results, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", help="name of the result; without it, the data set's")
    parser.add_argument("--runs", type=Path, default=Path("experiments") / "recipes", help="folder of the runs")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    arguments, options = parser.parse_args(words[:end]), words[end + 1 :]
    name = arguments.name or Path(arguments.dataset).name.lower()
    file = RESULTS / f"{name}.json"
    stored: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"options": options, "results": []}
    if stored["options"] != options:
        parser.error(f"{file} has results with other options, {stored['options']}: choose another --name")
    results = stored["results"]
    for seed in arguments.seeds:
        if seed not in [result["seed"] for result in results]:
            results.append(train(name, arguments.dataset, seed, options, arguments.runs))
            results.sort(key=lambda result: result["seed"])
            if len({result["settings"] for result in results if "settings" in result}) > 1:
                parser.error(f"{file} has results with other settings, because the recipe has changed: remove it first")
            stored = {"options": options, "summary": summary(results), "results": results}
            RESULTS.mkdir(exist_ok=True)
            file.write_text(json.dumps(stored, indent=1) + "\n")
    for result in results:
        print(
            f"seed {result['seed']}: test {100 * result['test_accuracy']:.2f} % of {result['test_images']:,}, "
            f"validation {100 * result['val_accuracy']:.2f} % (epoch {result['epoch']} of {result['epochs']}), "
            f"{result['seconds']:.1f} s, {result['parameters']:,} parameters"
        )
    of = stored["summary"]
    spread = "" if of["standard_deviation"] is None else f" ± {100 * of['standard_deviation']:.2f}"
    print(f"{name}: {100 * of['mean']:.2f}{spread} %, least {100 * of['least']:.2f} %, {of['longest_seconds']:.0f} s")


if __name__ == "__main__":
    main()
