"""HTML from plain values: every text is escaped, and the columns of tables can be sorted."""

from collections.abc import Collection, Sequence
from html import escape

from vitcli.core.errors import visible

_MANY_ROWS = 15
"""Number of rows up to which a table has no field to filter them."""
_LONG = 40
"""Number of rows up to which a table does not scroll on its own."""


class Html(str):
    """Text that is HTML already; every other text is escaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        tag: its name.
        content: texts, which are escaped, and HTML.
        attributes: its attributes; underscores become dashes, one at the end vanishes (``class_``), and None leaves
            the attribute out.
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(visible(str(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{words}>{joined(*content)}</{tag}>")


def joined(*parts: str) -> Html:
    """Join texts, which are escaped, and HTML."""
    return Html("".join(part if isinstance(part, Html) else escape(visible(part)) for part in parts))


def sortable_table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[int] = (),
    filtered_by: str = "",
) -> Html:
    """Return a table whose columns can be sorted; the first cell of a row is its heading.

    Args:
        caption: the title of the table.
        headings: the titles of the columns.
        rows: the cells, texts or HTML.
        numbers: the columns that hold numbers.
        filtered_by: the label of a field that shows only rows with some text, if there are many rows; empty: none.
    """
    filtered_by = filtered_by if len(rows) > _MANY_ROWS else ""
    kinds = ["number" if at in numbers else None for at in range(len(headings))]
    buttons = [
        element("th", element("button", heading, type="button", class_="sort"), scope="col", class_=kind)
        for heading, kind in zip(headings, kinds, strict=True)
    ]
    lines = [
        element(
            "tr",
            element("th", row[0], scope="row", class_=kinds[0]),
            *(element("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *buttons)),
        element("tbody", *lines),
    )
    field = (
        element("label", f"{filtered_by} ", Html('<input type="search" class="filter" autocomplete="off">'))
        if filtered_by
        else Html()
    )
    count = Html('<output class="filtered" aria-live="polite"></output>') if filtered_by else Html()
    tools = element("p", field, " ", count, class_="tools") if filtered_by else Html()
    kind = "table long" if len(rows) > _LONG else "table"
    return element("div", tools, scrolled(caption, table), class_=kind)


def scrolled(name: str, content: Html) -> Html:
    """Return a region that scrolls sideways on its own, also by the keyboard, where the page is too narrow."""
    return element("div", content, class_="scroll", role="group", aria_label=name, tabindex=0)


def facts_table(caption: str, facts: Sequence[tuple[str, str]]) -> Html:
    """Return a table of names and values."""
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in facts]
    return element("table", element("caption", caption), element("tbody", *rows), class_="facts")


def details(summary: str, *content: str) -> Html:
    """Return a part that is closed until it is asked for."""
    return element("details", element("summary", summary), *content)
