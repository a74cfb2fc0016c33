"""How long commands take that do little, and which heavy libraries they import.

    uv run python benchmarks/startup.py

Each command is run several times as a process of its own; printed are medians, and their ratios to the median of
``python -c "import torch"`` in the same run, beside what they are to be at most: seconds, or such a ratio.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGE = str(next((Path(__file__).parents[1] / "examples" / "images").glob("digit-*.png")))
COMMANDS = {
    ("--help",): "0.35 s",
    ("train", "--help"): "",
    ("models",): "0.4 s",
    ("datasets",): "0.4 s",
    ("recipes",): "0.4 s",
    ("runs",): "0.4 s",
    ("train", "casava"): "1 s",
    ("predict", "nofile.jpg"): "1 s",
    ("predict", IMAGE): "1.25",
    ("eval",): "1.25",
    ("attention-map", IMAGE): "1.25",
}
REFUSED = {("train", "casava"), ("predict", "nofile.jpg")}
HEAVY = ("torch", "torch._dynamo", "torchvision", "numpy", "PIL", "matplotlib", "sklearn")
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
        print(f"{'python -c pass':30} {1000 * bare:5.0f} ms   {bare / torch:.2f}")
        print(f"{'python -c import torch':30} {1000 * torch:5.0f} ms   1")
        for words, most in COMMANDS.items():
            code = int(words in REFUSED)
            seconds = median_seconds(["-m", "vitcli", *words], folder, rounds, code=code)
            imported = run(["-c", PROBE, *words], folder, code=code).stderr.splitlines()[-1] or "none of " + ", ".join(
                HEAVY
            )
            shown = " ".join(Path(word).name for word in words)
            figures = f"{1000 * seconds:5.0f} ms   {seconds / torch:.2f}" + (f" (at most {most})" if most else "")
            print(f"{'vit ' + shown:30} {figures:36} imports {imported}")


def median_seconds(words: list[str], folder: str, rounds: int, *, code: int = 0) -> float:
    """Time a Python process."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run(words, folder, code=code)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def run(words: list[str], folder: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, and let it write bytecode, as it does where ``vit`` is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


if __name__ == "__main__":
    main()
