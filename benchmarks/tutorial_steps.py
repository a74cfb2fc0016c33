"""Compare training steps of small models with the code of tutorials and with other libraries, on a CPU in float32.

    uv run python benchmarks/tutorial_steps.py

Three models, each with its twins of the same architecture, take steps in turn, with AdamW, on the same random images:

- vit-cifar10-classic, with plain code that computes the softmax step by step (the model of cifar_epoch.py);
- vit-mnist-classic, with torch's ``nn.TransformerEncoder``;
- vit-nano-patch4 with a class token, with timm, torchvision and transformers (their models have no other pooling).

The ratio of the median times is printed (above 1: ours is faster), with the smallest and largest ratio of a round.
"""

import argparse
from functools import partial

import torch
from cifar_epoch import PlainViT
from torch import Tensor, nn

from vitcli.core.model_config import ModelChoice, ModelConfig
from vitcli.engine.alternation import ratio
from vitcli.engine.autocast import Precision
from vitcli.engine.benchmark import measure_in_turn, our_training, usual_training
from vitcli.models.counterparts import LIBRARIES, build_counterpart
from vitcli.models.layers import cut_patches
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, amp="off", dtype="bfloat16")


class TorchEncoder(nn.Module):
    """The architecture of vit-mnist-classic: linear patches, a class token, and torch's encoder, norms last."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.patches = nn.Linear(config.patch_size[0] * config.patch_size[1] * config.in_channels, config.width)
        self.class_token = nn.Parameter(torch.randn(1, 1, config.width))
        self.positions = nn.Parameter(torch.rand(1, config.num_positions, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.num_heads, config.mlp_width, dropout=config.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.depth)
        self.head = nn.Linear(config.width, config.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (B, C, H, W) -> (B, classes)."""
        patches = cut_patches(images, self.patch_size).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), self.patches(patches)], dim=1)
        logits: Tensor = self.head(self.encoder(tokens + self.positions)[:, 0])
        return logits


def compare(config: ModelConfig, others: dict[str, nn.Module], *, batch: int, seconds: float, rounds: int) -> None:
    """Measure our steps and those of the others in turn, and print the ratios."""
    images = torch.randn(batch, config.in_channels, *config.image_size)
    labels = torch.randint(0, config.num_classes, (batch,))
    ours = VisionTransformer(config)
    found = measure_in_turn(
        {
            "vit": partial(our_training, ours, images, labels, FLOAT32),
            **{name: partial(usual_training, model, images, labels, FLOAT32) for name, model in others.items()},
        },
        device=CPU,
        one_by_one=False,
        rounds=rounds,
        seconds=seconds,
    )
    taken = found.pop("vit").rounds
    print(f"{config.name}, batch {batch}: {batch * rounds / sum(taken):,.0f} images/s")
    for name, measured in found.items():
        print(f"  against {name}: {ratio(measured.rounds, taken)}", flush=True)


def main() -> None:
    """Compare each model with its twins."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="for the steps of each model, without warm-up")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(0)
    measure = partial(compare, seconds=args.seconds, rounds=args.rounds)

    choose = partial(model_config, num_classes=10)
    cifar = choose(ModelChoice(name="vit-cifar10-classic"), image_size=(32, 32), in_channels=3)
    measure(cifar, {"softmax step by step": PlainViT()}, batch=256)

    mnist = choose(ModelChoice(name="vit-mnist-classic"), image_size=(28, 28), in_channels=1)
    measure(mnist, {"nn.TransformerEncoder": TorchEncoder(mnist)}, batch=128)

    changes = {"class_token": True, "pooling": "class", "final_norm": "tokens"}
    nano = choose(ModelChoice(name="vit-nano-patch4", changes=changes), image_size=(32, 32), in_channels=3)
    measure(nano, {library: build_counterpart(library, nano) for library in LIBRARIES}, batch=256)


if __name__ == "__main__":
    main()
