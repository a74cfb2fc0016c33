"""Compare a training step of the 119k CIFAR model with timm's VisionTransformer of the same shape.

    uv run python benchmarks/training_step.py

Batch 256, fp32, forward + backward + AdamW. Steps alternate, so that other work on the machine affects both in the same
way. The ratio of the medians is printed (above 1: ours is faster).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn
from torch.nn import functional as F

from vitcli.core.model_config import ModelChoice
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

BATCH = 256


def training_step(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return a function that takes one training step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Measure both models, and print the speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = model_config(ModelChoice(name="vit-nano-patch4"), image_size=(32, 32), in_channels=3, num_classes=10)
    models = {
        "vit": VisionTransformer(config),
        "timm": TimmVisionTransformer(
            img_size=32,
            patch_size=4,
            num_classes=10,
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_width / config.width,
            class_token=False,
            global_pool="avg",
        ),
    }
    sizes = {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}
    assert len(set(sizes.values())) == 1, sizes
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    steps = {name: training_step(model, images, labels) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(arguments.rounds + 3):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if round_number >= 3:  # the first rounds warm up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{sizes['vit']:,} parameters, batch {BATCH}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, median in medians.items():
        print(f"{name:5} {BATCH / median:7,.0f} images/s  ({1000 * median:.1f} ms a step)")
    print(f"ratio {medians['timm'] / medians['vit']:.2f}")


if __name__ == "__main__":
    main()
