"""Web addresses without their secrets: passwords before the host, and the query of signed addresses."""

import re
from typing import Any

_ADDRESS = re.compile(r"(?P<scheme>https?://)(?:[^/\s@?#]*@)?(?P<rest>[^\s?#]*)(?:\?[^\s#]*)?")


def without_secrets(value: Any) -> Any:
    """Remove user names, passwords and queries from the web addresses in a text, or in all texts of a JSON value."""
    if isinstance(value, str):
        return _ADDRESS.sub(r"\g<scheme>\g<rest>", value) if "://" in value else value
    if isinstance(value, dict):
        return {name: without_secrets(item) for name, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list | tuple) else value
