"""How long commands take that do little, and which heavy libraries they import.

    uv run python benchmarks/startup.py

Each command is run several times as a process of its own; printed are medians, and their ratios to the median of
``python -c "import torch"`` in the same run.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGE = next((Path(__file__).parents[1] / "examples" / "images").glob("digit-*.png"))
COMMANDS = (
    ("--help",),
    ("train", "--help"),
    ("models",),
    ("datasets",),
    ("recipes",),
    ("runs",),
    ("predict", str(IMAGE)),
)
HEAVY = ("torch", "torchvision", "numpy", "PIL", "matplotlib", "sklearn")
PROBE = f"""
import sys
sys.argv = ["vit", *sys.argv[1:]]
from vitcli.cli.app import main
try:
    main()
finally:
    print("\\n" + ", ".join(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        run(["-m", "vitcli", "train", "digits", "--epochs", "1"], folder)  # for predict
        bare, torch = (median_seconds(["-c", code], folder, rounds) for code in ("pass", "import torch"))
        print(f"{'python -c pass':24} {1000 * bare:5.0f} ms   {bare / torch:.2f}")
        print(f"{'python -c import torch':24} {1000 * torch:5.0f} ms   1")
        for words in COMMANDS:
            seconds = median_seconds(["-m", "vitcli", *words], folder, rounds)
            imported = run(["-c", PROBE, *words], folder).stderr.splitlines()[-1] or "none of " + ", ".join(HEAVY)
            shown = " ".join(Path(word).name for word in words)
            print(f"{'vit ' + shown:24} {1000 * seconds:5.0f} ms   {seconds / torch:.2f}   imports {imported}")


def median_seconds(words: list[str], folder: str, rounds: int) -> float:
    """Of a Python process."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run(words, folder)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def run(words: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """A Python process in ``folder``."""
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
