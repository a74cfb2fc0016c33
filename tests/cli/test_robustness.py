"""A short form of benchmarks/robustness.py: commands on broken files end with a message."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.builders.robustness import Robustness

TRIES = {"checkpoints": 30, "run folders": 15, "images": 40, "sidecars": 15, "settings and tables": 20}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, image_folder: Callable[..., Path]) -> Robustness:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("robustness")
        patch.setenv("VIT_DATA_DIR", str(folder / "data"))
        patch.chdir(folder)
        return Robustness(folder, lambda photos: image_folder(photos, {"left": 12, "right": 12}))


@pytest.fixture
def _no_setting_stays() -> Iterator[None]:
    """Random settings can ask torch for determinism, in this process."""
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.usefixtures("_no_setting_stays")
@pytest.mark.parametrize("kind", TRIES)
def test_what_is_broken_ends_with_a_message(broken: Robustness, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIT_DATA_DIR", str(broken.folder / "data"))
    attempt = broken.kinds()[kind]
    faults = {number: attempt(random.Random(f"{kind} 0 {number}")) for number in range(TRIES[kind])}
    assert {number: fault for number, fault in faults.items() if fault} == {}
