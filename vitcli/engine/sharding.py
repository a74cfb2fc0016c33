"""Sharded models (FSDP2, Zhao et al. 2023): each process holds a shard of the weights, gradients and moments.

A block is whole only while it is in use. Files contain whole tensors, so a saved state does not depend on the sharding.

torch's modules for this take most of a second to import, so they are imported only when a model is sharded.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def shard(models: Iterable[nn.Module], device: torch.device) -> None:
    """Reduce models to this process's shard, and put it on the device, which never holds a whole model.

    Afterwards the processes compute together: every process has to call the models equally often. The models load whole
    weights, for example from a file, but their ``state_dict`` returns shards.

    Args:
        models: the models, the same on every process; if they have ``blocks``, these are gathered one by one.
        device: the device of this process.
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
    """Return a tensor as a whole, on its device; if it is sharded, every process has to call this."""
    gather = getattr(tensor, "full_tensor", lambda: tensor)
    gathered: Tensor = gather()
    return gathered


def part_of(tensor: Tensor, *, like: Tensor) -> Tensor:
    """Return this process's shard of a tensor if ``like`` has its shape and is sharded, else the tensor itself."""
    if not is_sharded(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def whole_state(state: Mapping[str, Any], *, kept: bool) -> dict[str, Any]:
    """Return a state with whole tensors in the process that keeps it; the other processes only help to gather them.

    Gathered tensors go to the CPU one by one, because a device has memory only for its shard.
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
