"""Compare ``vit predict`` for a folder of JPEG photos with a script that does the same with timm.

    uv run python benchmarks/predict_photos.py

Both read the same DeiT-tiny, with random weights, and 1,000 photos that are drawn here, and write a CSV file with the
five most probable classes. timm's script is written as its own ``inference.py``: a loader with one worker per core, and
autocast, here to bfloat16. Each run is a process of its own, with all imports; the runs alternate, and the ratio of the
median times is printed (above 1: ours is faster).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

TIMM = """
import csv, sys
import timm, torch
from timm.data import create_dataset, create_loader, resolve_data_config

weights, photos, output, batch, workers = sys.argv[1:]
model = timm.create_model("deit_tiny_patch16_224", checkpoint_path=weights).eval()
dataset = create_dataset("", root=photos)
options = resolve_data_config({}, model=model)
loader = create_loader(dataset, batch_size=int(batch), num_workers=int(workers), use_prefetcher=False, **options)
rows = []
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    for images, _ in loader:
        rows += zip(*(part.tolist() for part in model(images).float().softmax(dim=1).topk(5)))
with open(output, "w", newline="") as file:
    csv.writer(file).writerows([name, *chances, *classes] for name, (chances, classes) in zip(dataset.filenames(), rows))
"""
PACKAGE = Path(__file__).parent.parent


def draw_photos(folder: Path, count: int) -> None:
    """Write JPEG files of 800 x 600 pixels with coarse and fine detail, about 130 KB each."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((800, 600))
        photo = np.asarray(coarse, dtype=np.int16) + random.integers(-20, 21, (600, 800, 1), dtype=np.int16)
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.jpg", quality=85)


def seconds(words: list[str], folder: Path) -> float:
    """Run a Python process in a folder, and return its time."""
    places = os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": places}, check=True, capture_output=True
    )
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of every run, their medians, and the ratio."""
    import timm
    from safetensors.torch import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64, help="of timm's loader; ours is the default of vit")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_photos(folder / "photos", args.photos)
        weights = folder / "deit_tiny_patch16_224.safetensors"
        save_file(timm.create_model("deit_tiny_patch16_224").state_dict(), weights)
        commands = {
            "vit": ["-m", "vitcli", "predict", "photos", "--model", str(weights), "--csv", "vit.csv"],
            "timm": ["-c", TIMM, str(weights), "photos", "timm.csv", str(args.batch_size), str(os.cpu_count())],
        }
        times: dict[str, list[float]] = {each: [] for each in commands}
        for _ in range(args.rounds):
            for each, words in commands.items():
                times[each].append(seconds(words, folder))
            print("   ".join(f"{each} {taken[-1]:.1f} s" for each, taken in times.items()), flush=True)
        rows = [len((folder / f"{each}.csv").read_text().splitlines()) for each in commands]
    ours, theirs = (statistics.median(taken) for taken in times.values())
    print(f"{args.photos} photos; medians: vit {ours:.1f} s, timm {theirs:.1f} s; lines written: {rows}")
    print(f"ratio {theirs / ours:.2f}")


if __name__ == "__main__":
    main()
