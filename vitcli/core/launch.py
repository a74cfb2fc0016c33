"""The rank of this process and the number of processes that train together, from environment variables."""

import os
from typing import NamedTuple


class Place(NamedTuple):
    """The rank of a process, and the number of all processes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Rank among the processes of this machine."""
    local_size: int = 1


ALONE = Place()


def launched_as() -> Place:
    """Read the place that ``torchrun``, or another launcher with the same variables, gave to this process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "MASTER_ADDR" not in os.environ or not all(os.environ.get(name, "").isdecimal() for name in names):
        return ALONE
    return Place(*(int(os.environ[name]) for name in names))
