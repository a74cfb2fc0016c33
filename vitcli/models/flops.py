"""The cost of a model."""

import torch

from vitcli.core.model_config import ModelConfig
from vitcli.models.capture import capture_attention
from vitcli.models.vit import VisionTransformer


def count_flops(config: ModelConfig) -> int:
    """Count the floating-point operations of a forward pass, per image: matrix products and convolutions.

    The last block is counted with every token, although our model computes only those that are read.
    """
    # Imported late: it imports triton, which complains on stderr if garbage collection is paused in the meantime.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, image = VisionTransformer(config), torch.zeros(1, config.in_channels, *config.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), capture_attention(model):
        model(image)
    return int(counter.get_total_flops())
