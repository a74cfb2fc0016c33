"""The facts about its pictures that ``vit attention-map`` prints."""

from typing import TYPE_CHECKING

from rich.markup import escape

from vitcli.cli.console import print_facts, stderr
from vitcli.cli.inline_images import can_show, show_image
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.explaining.report import AttentionReport, ExplainedImage

_SHOWN_IN_FULL = 5
"""Maximum number of images that are shown one by one; more images get a summary."""


def show_report(report: "AttentionReport") -> None:
    """Print facts about each image, or a summary of many; show the pictures if the terminal can."""
    figures = [*report.sheets, *(path for each in report.images for path in each.figures.values())]
    if len(report.images) <= _SHOWN_IN_FULL and not report.sheets:
        for each in report.images:
            print_facts(facts_of(each))
    else:
        known = [each for each in report.images if each.truth is not None and each.predicted]
        right = sum(each.predicted == each.truth for each in known)
        facts = {"images": f"{len(report.images):,}"}
        if known:
            facts["right"] = f"{right:,} of {len(known):,} whose class is known"
        facts |= {path.stem: str(path) for path in report.sheets}
        if not report.sheets and figures:
            facts["figures"] = f"{len(figures):,} in {figures[0].parent}"
        print_facts(facts)
    if report.page:
        print_facts({"page": str(report.page)})
    if report.report:
        stderr().print(f"[dim]all values: {escape(str(report.report))}[/]")
    if len(figures) <= _SHOWN_IN_FULL and can_show():
        for figure in figures:
            if figure.suffix == ".png":
                show_image(figure)


def facts_of(image: "ExplainedImage") -> dict[str, str]:
    """Return the facts about one image, for printing."""
    if image.error:
        return {"image": image.image, "error": image.error}
    facts = {"image": image.image}
    if image.predicted:
        truth = "" if image.truth is None else ", right" if image.truth == image.predicted else f", truth {image.truth}"
        share = "" if image.probability is None else f", {percent(image.probability)}"
        facts["class"] = f"{image.predicted}{share}{truth}"
    explained = {each.target: each.probability for each in image.maps if each.target}
    if explained.keys() - {image.predicted}:
        shares = (name if share is None else f"{name} ({percent(share)})" for name, share in explained.items())
        facts["explained"] = ", ".join(shares)
    for each in image.maps:
        sink = f"{percent(each.prefix_share)} on class and register tokens" if each.prefix_share else ""
        if sink and len(image.maps) == 1:
            facts["weight"] = sink
    for name, path in image.figures.items():
        facts[name] = str(path)
    return facts
