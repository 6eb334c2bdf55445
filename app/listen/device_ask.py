"""Asks which sound device to play on; the answer is its name, or the empty string for the system's default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ...engine.errors import WavedeckError
from ...engine.format import plain
from ...engine.playback.devices import Device, list_devices
from ...engine.playback.preference import DEVICE_VARIABLE
from ...widgets.palette import Palette
from .background import in_thread

DEFAULT = "the system's default"


class DeviceAsk(ModalScreen[str | None]):
    """Dismisses with the name, `""` for the default, or None when nothing is to change.

    Parameters
    ----------
    playing: name of the device that is open, empty while there is none.
    wanted: what was chosen before; None is the default.
    forced: what WAVEDECK_DEVICE says, which stands above every choice; None when it says nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel", id="device.cancel", tooltip="Play on as before"),
    ]
    DEFAULT_CSS = """
    DeviceAsk { align: center middle; background: $background 60%; }
    DeviceAsk > Vertical { width: 76; max-width: 98%; height: auto; max-height: 90%; padding: 0 2;
        background: $panel; border: round $primary; }
    DeviceAsk Static { width: 1fr; height: auto; }
    DeviceAsk OptionList { height: auto; max-height: 16; background: $panel; border: none; padding: 0; }
    DeviceAsk OptionList:focus { border: none; }
    DeviceAsk OptionList > .option-list--option-highlighted { background: $primary 45%; }
    """

    def __init__(self, playing: str, wanted: str | None, forced: str | None) -> None:
        super().__init__()
        self._playing, self._wanted, self._forced = playing, wanted, forced
        self._names: list[str] = []

    def compose(self) -> ComposeResult:
        """What is to be said, above the list."""
        with Vertical() as box:
            box.border_title = "sound device"
            yield Static("asking the sound system…", id="said", markup=False)
            yield OptionList(id="devices")

    def on_mount(self) -> None:
        """Ask in a thread: a sound system that hangs hangs there."""
        self._list()

    @work(name="listing the sound devices", exit_on_error=False)
    async def _list(self) -> None:
        try:
            self._show(await in_thread(list_devices))
        except WavedeckError as error:
            self._show((), str(error))

    def _show(self, devices: Sequence[Device], failed: str = "") -> None:
        """The sound system has answered, or a sentence says why not."""
        options = self.query_one(OptionList)
        options.clear_options()
        palette = Palette.of(self.app)
        words = "enter plays on it from now on; ● is the one in use"
        if self._forced is not None:
            words = f"{DEVICE_VARIABLE}={plain(self._forced, 40)} decides: unset it to choose here"
        self.query_one("#said", Static).update(Text(plain(failed, 400) or words, palette.muted))
        options.disabled = self._forced is not None
        self._names = ["", *(device.name for device in devices)]
        options.add_option(_option(DEFAULT, "", self._wanted is None and not self._playing, palette))
        for device in devices:
            facts = f"{device.api}, {device.channels} channels{', default' if device.default else ''}"
            options.add_option(_option(device.name, facts, device.name == self._playing, palette))
        options.highlighted = next(
            (place for place, device in enumerate(devices, 1) if device.name == self._playing), 0
        )
        options.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])


def _option(name: str, facts: str, used: bool, palette: Palette) -> Option:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("● " if used else "  ", palette.accent)
    line.append(plain(name, 50), palette.text)
    return Option(line.append(f"  {facts}" if facts else "", palette.text))
