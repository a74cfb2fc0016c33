"""Measure how long short commands take, and which heavy libraries they import.

    uv run python benchmarks/startup.py

Each command runs several times, each time in its own process. The medians are printed, and their ratios to the median
of ``python -c "import torch"`` in the same run, and the limit of each command: seconds, or such a ratio.
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
    """Measure all commands, and print the times, ratios and imports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    plain = {f"python -c {code}": ["-c", code] for code in ("pass", "import torch")}
    ours = {" ".join(["vit", *(Path(word).name for word in words)]): words for words in COMMANDS}
    programs = {**plain, **{name: ["-m", "vitcli", *words] for name, words in ours.items()}}
    codes = {name: int(words in REFUSED) for name, words in ours.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        run(["-m", "vitcli", "train", "digits", "--epochs", "1"], folder)  # for the commands that need a model
        for _ in range(rounds):
            for name, words in programs.items():  # in turn, so that other work on the machine affects all alike
                started = time.perf_counter()
                run(words, folder, code=codes.get(name, 0))
                seconds[name].append(time.perf_counter() - started)
        torch = statistics.median(seconds["python -c import torch"])
        for name in programs:
            median = statistics.median(seconds[name])
            figures = f"{name:30} {1000 * median:5.0f} ms   {median / torch:.2f}"
            if name in ours:
                most = f"(at most {COMMANDS[ours[name]]})" if COMMANDS[ours[name]] else ""
                imported = run(["-c", PROBE, *ours[name]], folder, code=codes[name]).stderr.splitlines()[-1]
                figures += f" {most:18} imports {imported or 'none of ' + ', '.join(HEAVY)}"
            print(figures)


def run(words: list[str], folder: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python in ``folder``, and let it write bytecode, as it does with an installed ``vit``."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


if __name__ == "__main__":
    main()
