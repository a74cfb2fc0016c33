"""Device names and environment variables that a user can set, read without importing torch."""

import os

from vitcli.core.errors import DeviceError, UsageError, did_you_mean

_KINDS = ("auto", "cpu", "cuda", "mps")


def parse_device(name: str) -> tuple[str, str]:
    """Split the name of a device into its kind and its index, which may be empty; a number alone is that of a GPU.

    Raises:
        UsageError: an unknown name.
        DeviceError: ``$VIT_BFLOAT16`` is neither yes nor no.
    """
    stated_bfloat16()
    kind, _, index = f"cuda:{name}".partition(":") if name.isdecimal() else name.partition(":")
    if kind not in _KINDS or (index and not (kind == "cuda" and index.isdecimal())):
        meant = "cuda" if kind.lower() in {"gpu", "nvidia"} else kind
        hint = did_you_mean(meant, _KINDS, otherwise="auto, cpu, cuda, cuda:N or mps")
        raise UsageError(f"unknown device {name!r}", hint=hint)
    return kind, index


def stated_bfloat16() -> bool | None:
    """Read ``$VIT_BFLOAT16``, which overrides whether a CPU counts as having bfloat16; None: it is not set.

    Raises:
        DeviceError: the variable is neither yes nor no.
    """
    told = os.environ.get("VIT_BFLOAT16", "")
    if told not in {"", "yes", "no"}:
        raise DeviceError(
            f"VIT_BFLOAT16 = {told!r} is neither yes nor no", hint="unset VIT_BFLOAT16 to let torch decide"
        )
    return told == "yes" if told else None
