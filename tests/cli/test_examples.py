"""Every example of ``--help`` does what it says."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.builders.reference import named_commands
from tests.conftest import Outcome
from vitcli.cli.app import app
from vitcli.cli.examples import EXAMPLES

REFUSED = {
    "vit download cassava --offline": "cassava is not on this machine",
    "vit download augreg-tiny --offline": "is not on this machine",
    "vit pretrain --resume": "no unfinished pretraining in experiments",
    "vit tune --resume": "no unfinished study in experiments",
}
LARGE = ("--set", "optim.batch_size=1000")
"""Batches of which the digits are two."""


def shortened(words: str, tiny: tuple[str, ...]) -> str:
    """The same without the network, without long training, and without ONNX, which tests/workflows/test_export.py writes."""
    more = {"vit download cassava": "--offline", "vit download augreg-tiny": "--offline", "vit export": "--format timm"}
    shorter = "--seconds 0.001 --rounds 1" if words.startswith("vit bench") else more.get(words, "")
    if words.startswith("vit tune") and "--resume" not in words:
        shorter = "--trials 2 --finalists 1 --seeds 2 --epochs 1"
    is_training = ("train" in words and "--resume" not in words) or "--seeds" in shorter
    words = words.replace("-b 1,8,64", "-b 1,2")
    return " ".join([words, *filter(None, [shorter]), *((*tiny, *LARGE) if is_training else ())])


def test_every_command_has_some(run_cli: Callable[..., Outcome]) -> None:
    assert list(EXAMPLES) == [name for name, _ in named_commands(app)]
    for name, examples in EXAMPLES.items():
        shown = run_cli(*name.split(), "--help").out
        for words, meaning in examples:
            (line,) = [line for line in shown.splitlines() if meaning in line and words in line]
            assert len(line.rstrip()) <= 80


@pytest.fixture
def _photos(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "photos", {"left": 10, "right": 10}, size=(16, 16), mode="RGB")
    image_folder(tmp_path / "few-labels", {"left": 6, "right": 6}, size=(16, 16), mode="RGB")
    Image.open(tmp_path / "photos" / "left" / "000.png").save(tmp_path / "img.png")


@pytest.mark.usefixtures("_photos", "short_peak")
def test_examples_run(run_cli: Callable[..., Outcome], tiny: tuple[str, ...]) -> None:
    for words in (shortened(words, tiny) for examples in EXAMPLES.values() for words, _ in examples):
        outcome = run_cli(*shlex.split(words)[1:])
        assert outcome.code == int(words in REFUSED), f"{words}: {outcome.err}"
        assert REFUSED.get(words, "") in outcome.err
