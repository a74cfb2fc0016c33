"""Draw the pictures of the README and the manual into ``docs/pictures``.

    uv run python examples/pictures.py                      # from bundled data, in two minutes on two cores
    uv run python examples/pictures.py --hands PATH/Dataset # the sheet of hands, too: five minutes more

``PATH/Dataset`` is the folder of class folders of the Sign Language Digits data set (Apache-2.0, arXiv 2011.08927).
"""

import argparse
import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console
from rich.progress import Progress

import vitcli
from vitcli.cli.live import LiveListener, columns
from vitcli.core.events import Event, TrainingProgress

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH = 1600
"""The largest width of a picture in pixels."""


def vit(*words: object) -> None:
    """Run a command as a user would type it."""
    print("vit", *words, flush=True)
    subprocess.run([sys.executable, "-m", "vitcli", *map(str, words)], check=True)


def keep(figure: Path, name: str) -> None:
    """Save a figure in few bytes, no wider than it is shown."""
    image = Image.open(figure).convert("RGB")
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    image.save(PICTURES / f"{name}.webp", quality=88, method=6)


def draw_digits() -> None:
    """Draw the curves and the confusion matrix of the bundled digits."""
    vit("train", "digits", "--name", "digits")
    vit("eval", "--model", "digits")
    keep(Path("experiments/digits/figures/curves.png"), "curves")
    keep(Path("experiments/digits/figures/confusion-test.png"), "confusion")


def draw_methods() -> None:
    """Draw every attribution method, and noise, for one picture with a known object."""
    vit("train", "shapes", "--name", "shapes")
    vit("attention-map", "--model", "shapes", "--split", "test", "--limit", "1", "--compare", "--output", "maps")
    (figure,) = Path("maps").glob("*.compare.png")
    keep(figure, "maps")


def draw_hands(photos: Path) -> None:
    """Draw the maps of thirty photos that the model was not trained on."""
    changes = ("crop_padding=0", "crop_scale=0.5", "rotate=15", "brightness=0.2", "contrast=0.2")
    model = ("patch_size=8", "patch_init_std=0.0722", "width=96", "mlp_width=192")
    settings = [*(f"augment.{each}" for each in changes), *(f"model.{each}" for each in model)]
    recipe = (
        "--recipe",
        "small-images",
        "--image-size",
        "80",
        "--epochs",
        "60",
        "--batch-size",
        "64",
        "--val-fraction",
        "0.1",
    )
    vit("train", photos, "--name", "hands", *recipe, *(word for each in settings for word in ("--set", each)))
    vit("eval", "--model", "hands")
    vit("attention-map", "--model", "hands", "--grid", "30", "--output", "hands.png")
    keep(Path("hands.png"), "hands")


def draw_progress() -> None:
    """Draw the terminal in the middle of a training, with rich's own export."""
    console = Console(record=True, force_terminal=True, width=100, file=io.StringIO(), highlight=False)
    progress = Progress(*columns(console), console=console)
    listener = LiveListener(console, progress)

    def listen(event: Event) -> None:
        listener(event)
        if isinstance(event, TrainingProgress) and event.epoch == 12 and event.step > 8:
            raise KeyboardInterrupt

    console.print("$ vit train")
    try:
        vitcli.train(emit=listen)
    except KeyboardInterrupt:
        console.print(progress)
    # Without the web fonts that rich names, because a page of the manual loads nothing from other sites.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="vit train"), flags=re.DOTALL)
    (PICTURES / "progress.svg").write_text(drawn, encoding="utf-8")


def main() -> None:
    """Draw all pictures, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=Path, help="folder of the hands' classes")
    hands = parser.parse_args().hands
    photos = hands.resolve() if hands else None
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["VIT_DATA_DIR"] = folder  # where nothing was downloaded, so that digits are taken
        draw_digits()
        draw_methods()
        draw_progress()
        if photos:
            draw_hands(photos)


if __name__ == "__main__":
    main()
