"""Measure how often maps point at the object of their class, on the shapes data set with its known objects.

    uv run python benchmarks/pointing.py

A model is trained with the recipe of the data set. Then every method explains the class of each object in 200
pictures with two objects (training pictures have one object), and in 200 pictures with one object. A map points at an
object if its strongest patch touches the object. A method that does not depend on the class gives one map for both
objects, so it can be right about at most one of them; noise shows the result by chance.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

import vitcli
from vitcli.attention.faithfulness import points_at
from vitcli.attention.registry import METHODS
from vitcli.attention.targets import ClassChoice
from vitcli.data.shapes import CLASSES, Scenes, draw_scenes
from vitcli.explaining.explainer import explain
from vitcli.explaining.question import Question
from vitcli.trained.loading import LoadedModel

_UNSEEN = 2
"""A seed that neither split uses."""


def hits(loaded: LoadedModel, scenes: Scenes) -> dict[str, float]:
    """Compute, for every method, the share of objects that its maps of the object's class point at."""
    order = [loaded.checkpoint.classes.index(name) for name in CLASSES]
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for index in range(len(scenes.images)):
        image = loaded.to_input(torch.from_numpy(scenes.images[[index]]).to(loaded.device))
        choices = tuple(ClassChoice(index=order[label]) for label in scenes.labels[index])
        explanation = explain(loaded.model, image, Question(methods=tuple(METHODS), choices=choices), seeds=[index])
        for method, maps in explanation.maps.items():
            for slot in range(len(choices)):
                weights = maps[:, min(slot, maps.shape[1] - 1)].cpu()
                mask = torch.from_numpy(scenes.masks[[index], slot])
                found[method].append(float(points_at(weights, mask)))
    return {method: sum(values) / len(values) for method, values in found.items()}


def main() -> None:
    """Train a model, compute the maps, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="*", default=[42])
    arguments = parser.parse_args()
    two, one = (draw_scenes(arguments.images, num_objects=count, seed=_UNSEEN) for count in (2, 1))
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            run = vitcli.train({"data": {"name": "shapes"}, "run": {"output_dir": folder, "seed": seed}})
            assert isinstance(run, vitcli.TrainResult)
            accuracy = vitcli.evaluate(output_dir=Path(folder)).metrics.top1
            print(
                f"seed {seed}: {100 * accuracy:.1f} % test accuracy, {run.seconds:.0f} s of training "
                f"({time.perf_counter() - started:.0f} s in all)"
            )
            loaded = vitcli.load_model(output_dir=Path(folder))
            of_two, of_one = hits(loaded, two), hits(loaded, one)
            for method in METHODS:
                print(f"  {method:13} two objects {100 * of_two[method]:5.1f} %   one {100 * of_one[method]:5.1f} %")


if __name__ == "__main__":
    main()
