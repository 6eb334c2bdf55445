"""The line of keys changes when the keys do, and not otherwise."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Button, Footer
from textual.widgets._footer import FooterKey

from wavedeck.widgets.steady_footer import SteadyFooter


class Keys(App[None]):
    """A screen with a key that comes and goes."""

    BINDINGS = [Binding("p", "play", "Play"), Binding("s", "stop", "Stop")]
    playing = False

    def compose(self) -> ComposeResult:
        yield Button("here")
        yield Button("there")
        yield SteadyFooter()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "stop" or self.playing

    def shown(self) -> list[FooterKey]:
        return list(self.query_one(Footer).query(FooterKey))


async def test_it_is_made_anew_only_when_it_says_something_else() -> None:
    app = Keys()
    async with app.run_test(size=(80, 8)) as pilot:
        await pilot.pause()
        first = app.shown()
        assert [key.description for key in first] == ["Play", "palette"]
        for _ in range(3):
            app.screen.refresh_bindings()
            await pilot.press("tab")
            await pilot.pause()
        assert [id(key) for key in app.shown()] == [id(key) for key in first]
        app.playing = True
        app.screen.refresh_bindings()
        await pilot.pause()
        assert [key.description for key in app.shown()] == ["Play", "Stop", "palette"]
        app.query_one(SteadyFooter).show_command_palette = False
        app.screen.refresh_bindings()
        await pilot.pause()
        assert [key.description for key in app.shown()] == ["Play", "Stop"]
