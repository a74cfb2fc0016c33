"""Names of devices; whether this machine has them, torch must tell."""

from vitcli.core.errors import DeviceError, did_you_mean

_KINDS = ("auto", "cpu", "cuda", "mps")


def parse_device(name: str) -> tuple[str, str]:
    """Split the name of a device into its kind and its index, which may be empty.

    Raises:
        DeviceError: an unknown name.
    """
    kind, _, index = name.partition(":")
    if kind not in _KINDS or (index and not (kind == "cuda" and index.isdecimal())):
        meant = "cuda" if kind.lower() in {"gpu", "nvidia"} else kind
        hint = did_you_mean(meant, _KINDS, otherwise="auto, cpu, cuda, cuda:N or mps")
        raise DeviceError(f"unknown device {name!r}", hint=hint)
    return kind, index
