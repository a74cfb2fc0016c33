"""The browser in which pages are looked at, and axe-core, which finds what a screen reader could not use."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
needs_browser = pytest.mark.skipif(
    not (shutil.which(CHROMIUM) and shutil.which(DRIVER)), reason="Chromium and its driver are not installed"
)
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: `npm install axe-core`")


COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe-core about colours, which take half of its time."""
ONLY_COLOURS = {"runOnly": [*COLOURS]}
ALL_BUT_COLOURS = {"rules": {rule: {"enabled": False} for rule in COLOURS}}


def violations(driver: Any, rules: Mapping[str, Any] = MappingProxyType({}), *, within: str = "html") -> list[str]:
    """What axe-core finds on the open page: the rules of WCAG 2.2, A and AA, and good practice, or some of them."""
    run = "axe.run(within, rules).then((found) => done(found.violations), (error) => done(String(error)))"
    axe = AXE.read_text(encoding="utf-8") if driver.execute_script("return !window.axe") else ""
    script = f"{axe};const [within, rules, done] = arguments;{run}"
    found = driver.execute_async_script(script, within, {"resultTypes": ["violations"], **rules})
    return found if isinstance(found, str) else [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


def in_colours(driver: Any, scheme: str, width: int = 1100) -> None:
    """Let the browser prefer light or dark colours, in a window of this width."""
    features = [{"name": "prefers-color-scheme", "value": scheme}] if scheme else []
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
