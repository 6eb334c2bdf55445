"""Tables that change while one looks at them."""

from __future__ import annotations

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from wavedeck.tests.conftest import screen_text
from wavedeck.widgets.live_table import Column, LiveTable, Row


class TableApp(App[None]):
    def __init__(self, follow: bool = False) -> None:
        super().__init__()
        columns = (Column("NAME", 0, least=6), Column("LOSS", 8, right=True), Column("HOST", 10, rank=5))
        self.table = LiveTable(columns, empty="nothing yet", follow=follow)
        self.seen: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_virtual_table_highlighted(self, event: LiveTable.Highlighted) -> None:
        self.seen.append(f"at {event.key}")

    def on_virtual_table_chosen(self, event: LiveTable.Chosen) -> None:
        self.seen.append(f"open {event.key}")


def rows(*names: str) -> list[Row]:
    return [Row(name, (Text(f"[red]{name}"), "0.5", "local")) for name in names]


async def test_the_cursor_stays_on_its_row_when_rows_come_and_go() -> None:
    app = TableApp()
    async with app.run_test(size=(40, 8)) as pilot:
        app.table.show_rows(rows("a", "b", "c"))
        await pilot.press("down")
        assert app.table.key == "b"
        app.table.show_rows(rows("new", "a", "b", "c"))
        assert app.table.key == "b"
        app.table.show_rows(rows("new", "a", "c"))
        assert app.table.key == "c"
        app.table.show_rows([])
        await pilot.pause()
        assert app.table.key is None and "nothing yet" in screen_text(app)
        assert app.seen[-1] == "at None"


async def test_markup_in_a_cell_is_text() -> None:
    app = TableApp()
    async with app.run_test(size=(40, 6)) as pilot:
        app.table.show_rows(rows("evil"))
        await pilot.pause()
        assert "[red]evil" in screen_text(app)


async def test_columns_are_dropped_by_rank_where_it_is_narrow() -> None:
    app = TableApp()
    async with app.run_test(size=(40, 6)) as pilot:
        app.table.show_rows(rows("a"))
        await pilot.pause()
        assert "HOST" in screen_text(app)
        await pilot.resize_terminal(22, 6)
        await pilot.pause()
        text = screen_text(app)
        assert "HOST" not in text and "LOSS" in text


async def test_a_growing_table_is_followed_until_one_looks_back() -> None:
    app = TableApp(follow=True)
    async with app.run_test(size=(40, 6)) as pilot:
        names = [f"r{n}" for n in range(30)]
        app.table.show_rows(rows(*names[:20]))
        await pilot.pause()
        assert app.table.key == "r19" and "r19" in screen_text(app)
        app.table.show_rows(rows(*names[:25]))
        await pilot.pause()
        assert app.table.key == "r24" and "r24" in screen_text(app)
        await pilot.press("up")
        app.table.show_rows(rows(*names))
        await pilot.pause()
        assert app.table.key == "r23"


async def test_enter_and_a_double_click_open() -> None:
    app = TableApp()
    async with app.run_test(size=(40, 8)) as pilot:
        app.table.show_rows(rows("a", "b", "c"))
        app.table.focus()
        await pilot.press("end", "enter")
        await pilot.double_click(app.table, offset=(3, 2))
        await pilot.pause()
        assert [word for word in app.seen if word.startswith("open")] == ["open c", "open b"]


@pytest.mark.parametrize("size", [(1, 1), (5, 2), (20, 5), (400, 120)])
async def test_any_size_draws(size: tuple[int, int]) -> None:
    app = TableApp()
    async with app.run_test(size=size) as pilot:
        app.table.show_rows(rows(*[f"run {n}" for n in range(300)]))
        await pilot.press("pagedown", "end", "home")
        await pilot.pause()
        assert len(screen_text(app).splitlines()) == size[1]
