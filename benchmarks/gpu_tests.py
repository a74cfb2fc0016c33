"""Run the tests that need a GPU, and write each outcome to a file at once; part of benchmarks/gpu.py.

The tests run in this process, one after the other, without any installed plugins of pytest. Warnings of libraries are
printed, but are not errors as in other test runs: a GPU is available for minutes only, and a new warning should not
fail a test.
"""

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from vitcli.core.files import write_json
from vitcli.engine.device import choose_device

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("tests/gpu", "-o", "addopts=", "--import-mode=importlib", "--strict-markers", "-p", "no:cacheprovider")


class Recorder:
    """A plugin of pytest that writes the outcomes to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, Any]] = {}
        self.started = time.perf_counter()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record tests that could not be collected."""
        if report.failed:
            self._keep(report.nodeid, "failed", 0.0, report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a test, and of its fixtures if they fail or skip it."""
        if report.when == "call" or not report.passed:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self._keep(report.nodeid, report.outcome, report.duration, why)

    def _keep(self, name: str, outcome: str, seconds: float, why: str) -> None:
        self.tests[name] = {"outcome": outcome, "seconds": seconds, "why": why}
        counts = Counter(test["outcome"] for test in self.tests.values())
        says = [", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))]
        says += [f"failed: {each}" for each, test in self.tests.items() if test["outcome"] == "failed"]
        seconds = time.perf_counter() - self.started
        write_json(self.path, {"says": says, "seconds": seconds, "counts": counts, "tests": self.tests})


def main() -> int:
    """Run the tests; the exit code is that of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    os.environ["VIT_TEST_DEVICE"] = str(choose_device(options.device))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    torch.set_num_threads(1)  # the setting in tests/conftest.py comes too late: torch is imported
    return pytest.main([*WORDS, "-W", "default", "--durations=10", "--tb=short"], plugins=[Recorder(options.json)])


if __name__ == "__main__":
    raise SystemExit(main())
