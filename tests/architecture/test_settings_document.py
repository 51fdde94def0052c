"""The reference page of the settings says what the struct says."""

from __future__ import annotations

from pathlib import Path

from common.settings import markdown

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
BEGIN = "<!-- settings: this table is made from the struct; tests/architecture compares them -->\n"
END = "<!-- end of settings -->\n"


def test_the_table_in_the_page_is_the_table_of_the_struct() -> None:
    page = PAGE.read_text("utf-8")
    table = page.partition(BEGIN)[2].partition(END)[0]
    assert table == markdown(), (
        "replace the table by the output of: "
        "python -c 'from common.settings import markdown; print(markdown(), end=str())'"
    )
