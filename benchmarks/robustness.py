"""Break files in thousands of seeded ways, and count the commands that end in a traceback, hang or take much memory.

    uv run python benchmarks/robustness.py [--seed N] [--share 0.1]

Checkpoints, run folders, images, configurations of other libraries, settings and tables of labels are mutated, and a
command reads each of them. A command must end within 60 seconds with the exit code 0, 1 or 2 and a message. Faults are
printed with the seed that repeats them, then the number of tries and faults of each kind, and the most memory that this
process had. The exit code is 1 if there is a fault, or more than 2 GB were used.
"""

import argparse
import contextlib
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from PIL import Image

from tests.builders.robustness import Robustness

TRIES = {"checkpoints": 1000, "run folders": 500, "images": 1000, "sidecars": 500, "settings and tables": 500}
MOST_GB = 2.0


def draw_images(folder: Path) -> Path:
    """Draw two classes of twelve small images each."""
    for name, side in (("left", 0), ("right", 4)):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            image = Image.new("L", (8, 8), number)
            image.paste(255, (side, 2, side + 4, 6))
            image.save(folder / name / f"{number}.png")
    return folder


def main() -> int:
    """Try all mutations; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="share of the tries")
    parser.add_argument("--only", default="", help="one kind of mutation")
    arguments = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        os.environ["VIT_DATA_DIR"] = str(Path(name) / "data")
        kinds = Robustness(Path(name), draw_images).kinds()
        for kind, attempt in kinds.items():
            if arguments.only not in {"", kind}:
                continue
            started, count, found = time.perf_counter(), max(round(TRIES[kind] * arguments.share), 1), 0
            for number in range(count):
                draw = random.Random(f"{kind} {arguments.seed} {number}")  # noqa: S311 - nothing secret
                if fault := attempt(draw):
                    found += 1
                    print(f"{kind}, seed {arguments.seed}, number {number}: {fault}", flush=True)
            print(f"{kind}: {count:,} tries, {found} faults, {time.perf_counter() - started:.0f} s", flush=True)
            faults += found
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)
    print(f"most memory: {peak:.2f} GB")
    return int(faults > 0 or peak > MOST_GB)


if __name__ == "__main__":
    sys.exit(main())
