"""Models of which each process holds a shard (FSDP2, Zhao et al. 2023): of weights, gradients and moments alike.

A block is whole only while it is computed with. On disk everything is whole, so that no state knows of shards.

What torch needs for this takes most of a second to import, so it is imported where a model is sharded.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def shard(models: Iterable[nn.Module], device: torch.device) -> None:
    """Keep of models this process's shard, and put it on its device; the whole of one is never there.

    From then on they compute together: every process has to call them equally often. They take whole weights, as those
    of a file, and ``state_dict`` gives shards.

    Args:
        models: the same on every process; ``blocks``, where they have some, are gathered one by one.
        device: of this process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for model in models:
        for block in getattr(model, "blocks", ()):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)  # also after validation, which has no backward pass
        model.register_load_state_dict_pre_hook(_take_shards)


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether each process holds a shard of a tensor."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on its device; of a sharded one, every process has to ask."""
    gather = getattr(tensor, "full_tensor", lambda: tensor)
    gathered: Tensor = gather()
    return gathered


def part_of(tensor: Tensor, *, like: Tensor) -> Tensor:
    """Cut out this process's shard of a whole tensor, where another one of its shape is sharded; else return the tensor."""
    if not is_sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def whole_state(state: Mapping[str, Any], *, kept: bool) -> dict[str, Any]:
    """A state with all tensors whole, for the process that keeps it; the others only help to gather them.

    What is gathered goes to the CPU, one tensor after the other: a device has room for its shard alone.
    """

    def found(value: Any) -> Any:
        if isinstance(value, Mapping):
            return whole_state(value, kept=kept)
        if not isinstance(value, Tensor) or not is_sharded(value):
            return value
        gathered = whole(value.detach())
        return gathered.cpu() if kept else value

    return {name: found(value) for name, value in state.items()}


def _take_shards(model: nn.Module, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in model.named_parameters():
        if (key := prefix + name) in weights:
            weights[key] = part_of(weights[key], like=parameter)
