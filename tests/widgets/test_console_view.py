"""The console as one sees it: follows, pauses, searches, and lets nothing out of its lines."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.color import ColorType
from textual.app import App, ComposeResult
from textual.widgets import Input

from wavedeck.engine.console import ConsolePicture, TerminalLog
from wavedeck.tests.conftest import screen_text
from wavedeck.widgets.console_search import MOST_PLACES, Place, Search
from wavedeck.widgets.console_view import ConsoleView


def picture(text: str, **options: int) -> ConsolePicture:
    log = TerminalLog(**options)
    log.feed(text.encode())
    return log.picture()


def numbered(count: int) -> str:
    return "".join(f"line {i}\r\n" for i in range(count))


class ConsoleApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.animation_level = "none"
        self.view = ConsoleView()
        self.earlier: list[tuple[str, int]] = []

    def compose(self) -> ComposeResult:
        yield self.view

    def on_mount(self) -> None:
        self.view.lines.focus()

    def on_console_view_earlier_wanted(self, event: ConsoleView.EarlierWanted) -> None:
        self.earlier.append((event.query_text, event.before_offset))


def visible(app: ConsoleApp) -> list[str]:
    return screen_text(app).splitlines()


async def test_it_says_when_there_is_nothing() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 8)) as pilot:
        await pilot.pause()
        assert "no console yet" in screen_text(app)
        app.view.show(ConsolePicture())
        await pilot.pause()
        assert "nothing printed yet" in screen_text(app)


async def test_it_follows_until_one_scrolls_up_and_again_on_f() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 10)) as pilot:
        log = TerminalLog()
        log.feed(numbered(100).encode())
        app.view.show(log.picture())
        await pilot.pause()
        assert visible(app)[8].startswith("line 99") and "following" in visible(app)[9]
        await pilot.press("up", "up", "up")
        await pilot.pause()
        assert not app.view.lines.follow and "paused" in visible(app)[9]
        before = visible(app)[:9]
        log.feed(b"new\r\n" * 50)
        app.view.show(log.picture())
        await pilot.pause()
        assert [row.split()[:2] for row in visible(app)[:9]] == [row.split()[:2] for row in before]
        await pilot.press("f")
        await pilot.pause()
        assert visible(app)[8].startswith("new") and "following" in visible(app)[9]
        await pilot.press("home")
        await pilot.pause()
        assert visible(app)[0].startswith("line 0") and not app.view.lines.follow
        await pilot.press("end")
        await pilot.pause()
        assert app.view.lines.follow and visible(app)[8].startswith("new")


async def test_the_wheel_stops_following_and_the_end_starts_it() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 10)) as pilot:
        app.view.show(picture(numbered(100)))
        await pilot.pause()
        await pilot._post_mouse_events([_scroll("up")], widget=app.view.lines)
        await pilot.pause()
        assert not app.view.lines.follow
        await pilot._post_mouse_events([_scroll("down")], widget=app.view.lines)
        await pilot.pause()
        assert app.view.lines.follow


def _scroll(way: str) -> Any:
    from textual import events

    return events.MouseScrollUp if way == "up" else events.MouseScrollDown


async def test_the_same_lines_stay_in_view_when_old_ones_go() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 10)) as pilot:
        log = TerminalLog(max_lines=100, rows=2)
        log.feed(numbered(100).encode())
        app.view.show(log.picture())
        await pilot.press("pageup", "pageup")
        await pilot.pause()
        top = visible(app)[0].split()[1]
        log.feed(b"later\r\n" * 30)
        app.view.show(log.picture())
        await pilot.pause()
        assert visible(app)[0].split()[1] == top


async def test_resizing_keeps_following() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 10)) as pilot:
        app.view.show(picture(numbered(100)))
        for size in ((40, 5), (80, 20), (120, 36)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.view.lines.follow and visible(app)[size[1] - 2].startswith("line 99")


async def test_search_finds_counts_and_steps() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(70, 10)) as pilot:
        app.view.show(picture(numbered(50) + "Needle one\r\n" + numbered(50) + "needle two, needle three\r\n"))
        await pilot.press("slash", *"needle")
        await pilot.pause()
        assert "3 matches" in visible(app)[-1]
        await pilot.press("enter")
        await pilot.pause()
        assert "match 3 of 3" in visible(app)[-1] and app.view.lines.has_focus
        await pilot.press("N", "N")
        await pilot.pause()
        assert "match 1 of 3" in visible(app)[-1] and "Needle one" in screen_text(app) and not app.view.lines.follow
        await pilot.press("n")
        await pilot.pause()
        assert "match 2 of 3" in visible(app)[-1]
        row = next(y for y, text in enumerate(visible(app)) if "needle two" in text)
        marked = [(s.text, bool(s.style.underline)) for s in app.view.lines.render_line(row) if s.style.bgcolor]
        assert [mark for mark in marked if mark[0] == "needle"] == [("needle", True), ("needle", False)]
        await pilot.press("escape")
        await pilot.pause()
        assert "match" not in visible(app)[-1] and app.view.lines.search is None


async def test_a_search_in_vain_says_so_and_escape_closes_it() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(70, 10)) as pilot:
        app.view.show(picture(numbered(5)))
        await pilot.press("slash", *"[red]x")
        await pilot.pause()
        assert "no match for “[red]x”" in visible(app)[-1]
        await pilot.press("escape")
        await pilot.pause()
        assert not app.query_one(Input).display and app.view.lines.has_focus


async def test_past_the_oldest_line_the_file_is_asked_for() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(120, 10)) as pilot:
        shown = picture(numbered(20))
        app.view.show(ConsolePicture(shown.lines, settled=shown.settled, earlier_bytes=5000, size=6000))
        await pilot.press("slash", *"line 3", "enter")
        await pilot.pause()
        assert app.earlier == []
        await pilot.press("N")
        await pilot.pause()
        assert app.earlier == [("line 3", 5000)] and "earlier in console.log" in screen_text(app)


async def test_nothing_of_a_hostile_console_gets_out() -> None:
    hostile = (
        "\x1b]0;owned\x07[red]markup[/red] [@click=app.quit]click[/]\r\n"
        "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\\r\n\x1b[?1049h\x1b[?1000halt\r\n\x1b[38;2;1;2;3mtrue\x1b[0m\r\n"
        "bad \xff\u202eutf\r\n"
    )
    app = ConsoleApp()
    async with app.run_test(size=(70, 10)) as pilot:
        app.view.show(picture(hostile))
        await pilot.pause()
        rows = visible(app)
        assert rows[0].startswith("[red]markup[/red] [@click=app.quit]click[/]") and rows[1].startswith("link")
        for y in range(10):
            for segment in app.view.lines.render_line(y):
                assert segment.control is None
                assert all(ord(char) >= 32 and not 127 <= ord(char) < 160 for char in segment.text)
                meta = dict(segment.style.meta) if segment.style else {}
                assert (segment.style is None or not segment.style.link) and set(meta) <= {"offset"}


async def test_colours_of_the_program_are_drawn() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(70, 10)) as pilot:
        app.view.show(picture("\x1b[31mred\x1b[0m \x1b[1;48;5;208mloud\x1b[0m \x1b[38;2;9;8;7mtrue\x1b[0m\r\n"))
        await pilot.pause()
        styles = {segment.text: segment.style for segment in app.view.lines.render_line(0)}
        assert styles["red"].color.number == 1 and styles["loud"].bold and styles["loud"].bgcolor.number == 208
        assert styles["true"].color.type is ColorType.TRUECOLOR and tuple(styles["true"].color.triplet) == (9, 8, 7)


async def test_states_are_words() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(90, 6)) as pilot:
        app.view.show(picture("hello\r\n"))
        for state, active, said in (
            ("running", True, "running"),
            ("failed", False, "ended: failed"),
            ("unreachable", True, "stale: unreachable"),
            ("stalled", True, "stalled: nothing printed"),
        ):
            app.view.show_state(state, active)
            await pilot.pause()
            assert said in visible(app)[-1]
        app.view.clear()
        await pilot.pause()
        assert "no console yet" in screen_text(app) and "hello" not in screen_text(app)


async def test_selected_text_can_be_copied() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(60, 8)) as pilot:
        app.view.show(picture("\x1b[31mone\x1b[0m two\r\nthree\r\n"))
        await pilot.pause()
        app.view.lines.text_select_all()
        await pilot.pause()
        assert app.screen.get_selected_text() == "one two\nthree"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (20, 5), (80, 24), (400, 120)])
async def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    app = ConsoleApp()
    async with app.run_test(size=size) as pilot:
        app.view.show(ConsolePicture())
        await pilot.pause()
        app.view.show(picture(numbered(300) + "x" * 3000 + "\r\n日本語 \x1b[7mwide\x1b[0m"))
        await pilot.press("slash", "x", "enter", "N", "home", "f")
        await pilot.pause()
        assert len(visible(app)) == size[1]


async def test_twenty_thousand_new_lines_a_frame_are_cheap() -> None:
    app = ConsoleApp()
    async with app.run_test(size=(120, 36)) as pilot:
        log = TerminalLog()
        pictures = []
        for _ in range(10):
            log.feed(b"a line of a program that floods its console with many words\r\n" * 4000)
            pictures.append(log.picture())
        began = time.process_time()
        for shown in pictures:
            app.view.show(shown)
            await pilot.pause()
        assert time.process_time() - began < 3.0


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_looks(size: tuple[int, int], snapshot: Any) -> None:
    app = ConsoleApp()
    text = (
        "2026-11-20 17:59:12 \x1b[32mINFO\x1b[0m  loading 1,200 clips\r\n"
        "2026-11-20 17:59:14 \x1b[33mWARN\x1b[0m  3 clips are silent\r\n"
        "[red]markup is text[/red]  \x1b[1mbold\x1b[0m \x1b[2mdim\x1b[0m \x1b[4munder\x1b[0m \x1b[7mreverse\x1b[0m\r\n"
        + "".join(
            f"step {i * 10} \x1b[36mloss\x1b[0m={2.5 / (1 + i):.4f} lr=1e-4 \x1b[38;5;{16 + i * 6}m■■■■\x1b[0m\r\n"
            for i in range(30)
        )
        + "\rEpoch 3:  45%|████▌     | 45/100 [00:12<00:15,  3.60it/s, v_num=0, train_loss=0.500]"
    )
    async with app.run_test(size=size) as pilot:
        app.view.show(picture(text))
        app.view.show_state("running", True)
        await pilot.press("slash", *"loss=0.1", "enter")
        await pilot.pause()
        snapshot.check(app, f"{size[0]}x{size[1]}")


# --- the pure search


def test_search_follows_what_changes_and_forgets_what_goes() -> None:
    log = TerminalLog(max_lines=10, rows=2)
    search = Search("bar")
    log.feed(b"bar 1\r\nBAR 2\r\nfoo")
    search.update(log.picture())
    assert [place.line for place in search.places] == [0, 1]
    log.feed(b"\rbar\r\n")
    search.update(log.picture())
    assert search.places[-1] == Place(2, 0, 3)
    log.feed(b"x\r\n" * 30)
    search.update(log.picture())
    assert search.places == []


def test_capitals_make_a_search_exact() -> None:
    search = Search("Bar")
    search.update(picture("bar\nBar\nBAR\n"))
    assert search.places == [Place(1, 0, 3)]


def test_places_are_bounded() -> None:
    search = Search("a")
    search.update(picture(("a" * 1500 + "\n") * 20))
    assert len(search.places) == MOST_PLACES and search.more and search.places[-1] == Place(19, 1499, 1500)
