"""What some words of ``vit train`` mean."""

from vitcli.core.errors import UsageError


def head_width(head: str | None) -> int | None:
    """``linear`` is 0, ``mlp:512`` is 512."""
    if head is None or head == "linear":
        return None if head is None else 0
    kind, _, width = head.partition(":")
    if kind != "mlp" or not width.isdecimal() or not int(width):
        raise UsageError(f"--head {head!r} is no head", hint="expected: linear, or mlp:WIDTH, for example mlp:512")
    return int(width)


def batch_settings(batch_size: str | None, grad_accum_steps: int | None) -> dict[str, int | None]:
    """``auto`` leaves the size to recipe and defaults, and the number of parts to what is found out here."""
    if batch_size is None or batch_size.isdecimal():
        return {"batch_size": None if batch_size is None else int(batch_size), "grad_accum_steps": grad_accum_steps}
    if batch_size != "auto":
        raise UsageError(f"--batch-size {batch_size!r} is no number of images", hint="expected: a number, or auto")
    if grad_accum_steps is not None:
        raise UsageError("--batch-size auto and --grad-accum-steps both say how a batch is cut", hint="leave one out")
    return {"batch_size": None, "grad_accum_steps": 0}
