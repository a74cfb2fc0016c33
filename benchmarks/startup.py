"""How long commands take that need no torch, and what they import.

    uv run python benchmarks/startup.py

Each command is run several times as a process of its own; medians are printed.
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = (("--help",), ("train", "--help"), ("models",), ("datasets",), ("recipes",), ("runs",))
HEAVY = ("torch", "torchvision", "numpy", "PIL", "matplotlib", "sklearn")
PROBE = """
import sys
sys.argv = ["vit", *sys.argv[1:]]
from vitcli.cli.app import main
try:
    main()
finally:
    print("\\n" + ",".join(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    probe = PROBE.format(heavy=HEAVY)
    bare = median_seconds(["-c", "pass"], arguments.rounds)
    print(f"{'python -c pass':20} {1000 * bare:5.0f} ms")
    for words in COMMANDS:
        seconds = median_seconds(["-m", "vitcli", *words], arguments.rounds)
        answer = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True, check=True)
        imported = answer.stderr.splitlines()[-1] or "none of " + ", ".join(HEAVY)
        print(f"{'vit ' + ' '.join(words):20} {1000 * seconds:5.0f} ms   imports {imported}")


def median_seconds(words: list[str], rounds: int) -> float:
    """Of a Python process."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
