"""Find out whether this process is one of several that train together: launchers say so in the environment."""

import os
from typing import NamedTuple


class Place(NamedTuple):
    """The number of this process, and of all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    local_size: int = 1


ALONE = Place()


def launched_as() -> Place:
    """The place that ``torchrun``, or whatever sets the same variables, gave to this process."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "MASTER_ADDR" not in os.environ or not all(os.environ.get(name, "").isdecimal() for name in names):
        return ALONE
    return Place(*(int(os.environ[name]) for name in names))
