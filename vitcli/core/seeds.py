"""Seeds by purpose and place: a step draws the same random numbers, whatever was drawn before it.

Therefore a run that resumes in the middle of an epoch, or a step that is repeated, needs no stored random state.
"""

import hashlib


def derived_seed(purpose: str, *numbers: int) -> int:
    """Return a 63-bit seed from every argument, for example ``derived_seed("augment", seed, epoch, step)``."""
    digest = hashlib.blake2b(repr((purpose, *numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
