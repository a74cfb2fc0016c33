"""Fingerprints of data sets, by which runs, evaluations and studies recognise their data."""

_BEFORE_CONTENT = "+"


def with_content(names_and_sizes: str, content: str) -> str:
    """Add a hash of a part of the content to a hash of names and sizes; an empty one adds nothing."""
    return f"{names_and_sizes}{_BEFORE_CONTENT}{content}" if content else names_and_sizes


def is_same_data(one: str | None, other: str | None) -> bool:
    """Tell whether two fingerprints are of the same data; the content counts if both have a hash of it.

    Early versions stored no hash of the content, and the earliest no fingerprint (None).
    """
    if one is None or other is None:
        return one == other
    (first, _, content), (second, _, its_content) = (each.partition(_BEFORE_CONTENT) for each in (one, other))
    return first == second and (content == its_content or not (content and its_content))
