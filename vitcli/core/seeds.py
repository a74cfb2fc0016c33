"""Seeds of what is drawn, by purpose and place: a step draws the same whatever was drawn before it.

So nothing random has to be kept for a run that resumes in the middle of an epoch, or for a step that is taken again.
"""

import hashlib


def derived_seed(purpose: str, *numbers: int) -> int:
    """63 bits that depend on every argument, for example ``derived_seed("augment", seed, epoch, step)``."""
    digest = hashlib.blake2b(repr((purpose, *numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
