"""Listen: the items of a run's evaluations, with sound. This file wires list, tracks, pages and player together."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Footer, Input, Static

from ...engine.errors import WavedeckError
from ...engine.manifest import read_manifest
from ...engine.playback import Output, Player, PlayerState
from ...engine.playback.preference import wanted_device
from ...engine.rundir import RunDir
from ...engine.samples import sample_sets
from ...widgets.confusion_matrix import ConfusionMatrix
from ...widgets.live_table import VirtualTable
from ...widgets.palette import Palette
from ...widgets.pixel_picture import PixelStack
from ...widgets.sample_list import SampleList
from ...widgets.sample_table import SampleTable
from ...widgets.title_bar import TitleBar
from ...widgets.track_stack import TrackStack
from ...widgets.transport import Transport
from ...widgets.whole_footer import WholeFooter
from ..deck import deck_of
from ..listen.actions import ListenActions
from ..listen.blind_panel import BlindPanel
from ..listen.details import Details, class_order, has_classes
from ..listen.item_line import item_line
from ..listen.keys import LISTEN_BINDINGS
from ..listen.listing import Listing, Wanted
from ..listen.messages import SamplesSeen, TracksSeen
from ..listen.session import Session
from ..listen.watching import SamplesWatcher
from ..messages import WatchFailed
from .watching import WatchingScreen

TICKS_PER_S = 15
SETTLE_S = 0.06
"""A cursor that moves on within this was only passing: its item is not loaded."""
WIDE, TALL = 110, 30


def make_player(output: Output) -> Player:
    """The player of the machine in front of the user."""
    from ...engine.playback import open_player

    return open_player(output)


class ListenScreen(ListenActions, WatchingScreen, Screen[None]):
    """The list of items, the chosen item's tracks and pages, and the player's line."""

    HELP_TITLE = "Listen"
    BINDINGS: ClassVar[list[BindingType]] = [
        *LISTEN_BINDINGS,
        Binding("h", "app.hosts", "Hosts", show=False, id="listen.hosts", tooltip="Machines: links, GPUs, sessions"),
    ]
    DEFAULT_CSS = """
    ListenScreen #body { layout: vertical; height: 1fr; }
    ListenScreen.wide #body { layout: horizontal; }
    ListenScreen #list { height: 30%; min-height: 3; }
    ListenScreen.wide #list { height: 1fr; width: 38%; max-width: 76; border-right: vkey $panel; }
    ListenScreen #sound { height: 1fr; }
    ListenScreen .line { height: 1; width: 1fr; background: $panel; padding: 0 1;
        text-wrap: nowrap; text-overflow: ellipsis; }
    ListenScreen #tracks { height: 1fr; min-height: 1; }
    ListenScreen Details { height: 34%; min-height: 3; max-height: 14; }
    ListenScreen.large Details { height: 75%; max-height: 100%; }
    ListenScreen.bare Details { display: none; }
    ListenScreen #reason { height: auto; max-height: 2; padding: 0 1; background: $panel; color: $warning; }
    ListenScreen #reason.short { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ListenScreen ToastRack { margin-bottom: 2; }
    ListenScreen.asking ToastRack { margin-bottom: 5; }
    ListenScreen #line { dock: bottom; display: none; height: 3; margin-bottom: 1; border: round $accent; }
    ListenScreen #line.shown { display: block; }
    ListenScreen #line.wrong { border: round $error; border-subtitle-color: $text-error; }
    """

    def __init__(
        self, run_id: str, set_name: str | None = None, item: str | None = None, wanted: Wanted | None = None
    ) -> None:
        super().__init__()
        self._wanted_first = wanted or Wanted()
        self.run_id, self._set_wanted, self._item_wanted = run_id, set_name, item
        self.run_dir: RunDir | None = None
        self.wanted = Wanted()
        self.listing = Listing()
        self.sets: tuple[str, ...] = ()
        self._session: Session | None = None
        self._seen: SamplesSeen | None = None
        self._preferred: str | None = None
        self._settling: Timer | None = None
        self._timer: Timer | None = None
        self._state: PlayerState | None = None
        self._wrong = ""
        self._rewinds = 0
        self._failed = False
        self._looked = -1

    def compose(self) -> ComposeResult:
        """Title; list beside or above tracks and pages; player, line of input, keys."""
        self.set_class(self.app.size.width >= WIDE, "wide", update=False)  # before styles and places are worked out
        yield TitleBar("Listen")
        with Container(id="body"):
            with Vertical(id="list"):
                yield Static("", id="list-line", classes="line", markup=False)
                yield SampleTable(id="items")
            with Vertical(id="sound"):
                yield Static("", id="item-line", classes="line", markup=False)
                with ContentSwitcher(initial="stack", id="tracks"):
                    yield PixelStack(id="stack")
                    yield BlindPanel(id="blind")
                yield Details(id="details")
        yield Static("", id="reason", markup=False)
        yield Transport(id="transport")
        yield Input(id="line")
        yield WholeFooter()

    # --- opening and closing

    @property
    def session(self) -> Session:
        """What is shown and heard."""
        assert self._session is not None
        return self._session

    def on_mount(self) -> None:
        """Open the set and the player."""
        self.run_dir = RunDir(deck_of(self).home.runs / self.run_id)
        self.query_one(TitleBar).note = self.run_id
        self.query_one("#reason").display = False
        try:
            manifest = read_manifest(self.run_dir.manifest)
            self._preferred = manifest.headline.metric if manifest.headline is not None else None
            self._has_recipe = manifest.recipe is not None
        except WavedeckError:
            pass  # an unreadable manifest costs the order of the list only
        self.sets = sample_sets(self.run_dir.path)
        self.class_order = class_order(self.run_dir)
        self.open_set(self._first_set())
        self.wanted = self._wanted_first
        self._timer = self.set_interval(1 / TICKS_PER_S, self._tick)
        self.query_one(SampleTable).focus()

    def _first_set(self) -> str:
        if self._set_wanted is not None:
            return self._set_wanted
        return "val" if "val" in self.sets or not self.sets else self.sets[0]

    def new_player(self) -> Player:
        """A player for the device that is wanted."""
        return make_player(Output(device=wanted_device(deck_of(self).home.root)))

    def open_set(self, name: str) -> None:
        """Show another set of the run, with the same player and the same way to match levels."""
        assert self.run_dir is not None
        self.stop_watching()
        self.end_test()
        before = self._session
        if before is not None:
            before.close_files()
        player = before.player if before is not None else self.new_player()
        matched = before is None or before.matched
        self._session = Session(self.run_dir.path, name, player, self.opener(self.run_id), matched=matched)
        self.wanted, self._seen, self._rewinds = Wanted(), None, 0
        self.query_one(SampleTable).show_samples(SampleList(), "reading the samples…")
        self.show_item(None)
        session = self._session
        self.keep_watching(
            "samples", True, lambda: SamplesWatcher(session.samples, session.notes, session.notes_lock, self)
        )

    def on_unmount(self) -> None:
        """No thread and no sound outlives the screen; while another is in front the sound goes on."""
        self.stop_watching()  # before what it reads is closed
        if self._session is not None:
            self._session.close()

    def on_resize(self, event: events.Resize) -> None:
        """List beside the tracks where there is room, above them where there is none."""
        wide = event.size.width >= WIDE
        self.set_class(wide, "wide")
        self.query_one(Footer).show_command_palette = wide
        if self._session is not None:
            self.call_after_refresh(self._show_item_line)  # as many numbers as fit now
            self.call_after_refresh(self._show_list_line)

    # --- the list

    @on(SamplesSeen)
    def _samples_arrived(self, message: SamplesSeen) -> None:
        if message.set_name != self.session.samples.name:
            return
        self.sets = message.sets
        absent = message.set_name not in message.sets and self._set_wanted is None
        if absent and message.sets:  # the run's first set has just appeared
            self.open_set(self._first_set())
            return
        rewound, self._rewinds = message.rewinds != self._rewinds, message.rewinds
        self._seen = message
        self.show_list()
        if rewound and self.session.item is not None:
            self.show_item(None)
            self._settled()  # the cursor stands on an item already, and will not say so again
        if self._failed:
            self._failed = False
            if self.session.item is not None:  # the list was gone, and with it the cursor's place
                self.query_one(SampleTable).select_row(self.session.item.row)
        self.find_wanted()

    @on(WatchFailed)
    def _reading_failed(self, message: WatchFailed) -> None:
        self._failed = True
        self.query_one(SampleTable).show_samples(SampleList(), f"! {message.error}")

    @on(VirtualTable.Highlighted, "#items")
    def _cursor_moved(self, message: VirtualTable.Highlighted) -> None:
        """Load the item once the cursor rests on it."""
        if self._settling is not None:
            self._settling.stop()
        self._settling = self.set_timer(SETTLE_S, self._settled)

    def _settled(self) -> None:
        row = self.query_one(SampleTable).item_row
        item, columns = self.session.item, self.listing.columns
        if row is None or row >= len(columns):
            if not len(self.listing) and item is not None and self._seen is not None and not self.listing.total:
                self.show_item(None)
            return
        if item is not None and columns.ids[row] == item.id and not self.listing.every_step:
            return  # the same item, evaluated again: what is heard stays until s is pressed
        self.show_item(row)

    @on(VirtualTable.Chosen, "#items")
    def _item_chosen(self, message: VirtualTable.Chosen) -> None:
        if isinstance(message.key, int):
            before = self.session.item
            self._settled()
            if self.session.item is before or not self.session.state.playing:
                self.action_play()

    @on(SampleTable.SortWanted)
    def _sort_wanted(self, message: SampleTable.SortWanted) -> None:
        turned = not self.listing.descending if message.key == self.listing.sort else None
        self.wanted = replace(self.wanted, sort=message.key, descending=turned)
        self.show_list()

    @on(ConfusionMatrix.CellChosen)
    def _cell_chosen(self, message: ConfusionMatrix.CellChosen) -> None:
        self.wanted = replace(self.wanted, cell=(message.target, message.predicted))
        self.show_list()
        self.query_one(SampleTable).focus()

    # --- the item

    def show_item(self, row: int | None, *, keep: bool = False) -> None:
        """Show and load an item; `keep` keeps the playhead, for the same item at another step."""
        try:
            item = None if row is None else self.session.samples.item(row)
        except WavedeckError:
            item = None  # the index was replaced while the cursor moved
        self.end_test()
        self.session.show(item, keep=keep)
        if not keep:
            self.query_one(TrackStack).window = None
        self.show_voices()

    def show_voices(self) -> None:
        """Other voices are loaded: draw what is known, and read the rest."""
        session = self.session
        self._wrong = " ".join(session.item.problems) if session.item is not None else ""
        stack = self.query_one(TrackStack)
        no_item = self.no_item_words or "no item is chosen"
        stack.words = "no sound in this item" if session.item is not None else no_item
        self.show_tracks()
        self.show_facts()
        if session.item is not None:
            self.read_tracks()
        self._tick()

    def show_tracks(self) -> None:
        """The tracks as far as they are known, or the panel of a blind test."""
        session, stack = self.session, self.query_one(TrackStack)
        stack.tracks = session.shown
        stack.audible = session.heard
        stack.loop = session.state.loop
        panel = self.query_one(BlindPanel)
        panel.test = session.blind
        panel.result = self._result
        if session.blind is not None:
            first, second = (session.voices[place].title for place in session.sides)
            panel.names = first, second
        front = session.blind is not None or self._result is not None
        self.query_one("#tracks", ContentSwitcher).current = "blind" if front else "stack"
        if self._result is not None:
            panel.focus()  # the next key is for it
        elif panel.has_focus:
            self.query_one(SampleTable).focus()
        self._show_item_line()
        self._state = None
        self._tick()

    def show_facts(self) -> None:
        """The pages below the tracks."""
        columns = self.listing.columns
        session = self.session
        theirs = session.theirs()
        self.query_one(Details).show(
            session.item, session.note(), self._wrong, has_classes(columns), session.samples, session.blind_tests(),
            (session.other.name, theirs) if session.other is not None and theirs is not None else None,
            "no samples" if self.empty else "",
        )  # fmt: skip
        self._show_item_line()

    def _show_item_line(self) -> None:
        line, words = self.query_one("#item-line", Static), "nothing to listen to yet" if self.empty else ""
        width = line.content_size.width or 10_000
        line.update(item_line(self.session, self.listing, Palette.of(self.app), width, words))

    @on(TracksSeen)
    def _tracks_read(self, message: TracksSeen) -> None:
        if not self.session.saw(message.generation, message.views):
            return
        if message.wrong != self._wrong:
            self._wrong = message.wrong
            self.show_facts()
        stack = self.query_one(TrackStack)
        stack.tracks = self.session.shown
        self._state = None  # whether levels are matched is known now
        self._tick()
        if stack.window is not None and self._looked != message.generation and self.session.unlooked:
            self._looked = message.generation  # zoomed in before it was read: the same item at another step
            self.read_closer()

    # --- the player, and what is typed

    @on(Input.Changed, "#line")
    def _line_typed(self, event: Input.Changed) -> None:
        self.line_typed(event.value)

    @on(Input.Submitted, "#line")
    def _line_given(self, event: Input.Submitted) -> None:
        self.line_given(event.value)

    @on(TrackStack.SeekWanted)
    @on(Transport.SeekWanted)
    def _seek_wanted(self, message: TrackStack.SeekWanted | Transport.SeekWanted) -> None:
        self.session.player.seek(message.seconds)
        self._tick()

    @on(TrackStack.LoopWanted)
    def _loop_wanted(self, message: TrackStack.LoopWanted) -> None:
        self.session.player.loop(*message.loop)
        self._tick()

    @on(TrackStack.TrackWanted)
    @on(Transport.TrackWanted)
    def _track_wanted(self, message: TrackStack.TrackWanted | Transport.TrackWanted) -> None:
        self.hear(message.index)

    @on(TrackStack.WindowChanged)
    def _window_changed(self) -> None:
        if self._session is not None and self.query_one(TrackStack).window is not None:
            self.read_closer()

    @on(Transport.Pressed)
    def _transport_pressed(self, message: Transport.Pressed) -> None:
        {"play": self.action_play, "loop": self.action_no_loop, "match": self.action_match}[message.action]()
