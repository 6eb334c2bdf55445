"""What the keys of the Listen screen do to the sound: playing, comparing two tracks, the tests, the device. A mixin."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.widgets import Static

from ...engine.errors import WavedeckError
from ...engine.format import plain
from ...engine.playback.preference import forced_device, keep_device, wanted_device
from ...widgets.track_stack import TrackStack
from ...widgets.transport import Transport
from ..deck import deck_of
from .background import ListenBackground
from .device_ask import DeviceAsk
from .item_line import transport_state

if TYPE_CHECKING:
    from ...engine.playback import Player, PlayerState
    from .blind import BlindResult
    from .session import Session

SEEK_S, SEEK_PART = 1.0, 0.05
READ_S = 0.1


class SoundActions(ListenBackground):
    """Playing, comparing and testing."""

    _rates = False
    _session: Session | None = None
    _state: PlayerState | None = None
    _result: BlindResult | None = None
    _asked_to_play = False
    _closed_at = -math.inf

    if TYPE_CHECKING:

        def show_tracks(self) -> None: ...
        def show_facts(self) -> None: ...
        def new_player(self) -> Player: ...

    # --- playing

    def action_play(self) -> None:
        """Play or pause."""
        self._asked_to_play = True
        self.session.toggle_play()
        self._tick()

    def action_seek(self, steps: int) -> None:
        """By a second, or by a twentieth of a short clip."""
        state = self.session.state
        self.session.player.seek(state.position_s + steps * min(SEEK_S, SEEK_PART * state.duration_s))
        self._tick()

    def action_loop_start(self) -> None:
        """The loop begins here."""
        self.session.set_loop(start=self.session.state.position_s)
        self._tick()

    def action_loop_end(self) -> None:
        """The loop ends here."""
        self.session.set_loop(end=self.session.state.position_s)
        self._tick()

    def action_no_loop(self) -> None:
        """Play on to the end."""
        self.session.player.loop(None)
        self._tick()

    def action_gain(self, steps: int) -> None:
        """Louder or softer."""
        self.session.change_gain(steps)
        self._tick()

    def action_match(self) -> None:
        """Level matching on or off."""
        self.session.toggle_match()
        self.show_tracks()

    async def action_stack(self, action: str) -> None:
        """What the tracks can do, from wherever the keys go."""
        await self.query_one(TrackStack).run_action(action)

    # --- which track

    def hear(self, place: int) -> None:
        """Switch at the same playhead."""
        sides = self.session.sides
        if self.session.blind is None and self.session.hear(place):
            self.query_one(TrackStack).audible = place
            if sides != self.session.sides:  # other tracks are a and b now
                self.show_tracks()
            self._tick()

    def action_letter(self, letter: str) -> None:
        """One or the other of the two that are compared; A or B of a blind test."""
        if self.session.blind is not None:
            self.session.hear_blind(letter)
            self.show_tracks()
        else:
            self.hear(self.session.sides["ab".index(letter)])

    def action_refer(self, place: int = -1) -> None:
        """Compare others with this track, or with the one that is heard: it becomes `a`."""
        session = self.session
        if session.blind is None:
            generation = session.generation
            self._told(session.refer_to(session.heard if place < 0 else place))
            self.show_tracks()
            if session.generation != generation:
                self.read_tracks()

    def action_digit(self, digit: int) -> None:
        """A rating that was asked for, or a track; 0 is the whole clip."""
        if self._rates:
            self._rates = False
            self._do(lambda: self.session.rate(digit))
        elif digit == 0:
            self.query_one(TrackStack).action_reset()
        else:
            self.hear(digit - 1)

    def action_null(self) -> None:
        """The difference, or what was heard before."""
        if self.session.blind is not None:  # hidden, the key would be the app's and launch something
            self.tell("esc ends the blind test first")
            return
        self._told(self.session.null_test())
        self.show_tracks()
        if self.session.nulling:
            self.read_tracks()

    def action_blind(self) -> None:
        """Begin a blind test; in one, hear X."""
        if self.session.blind is not None:
            self.session.hear_blind("x")
        else:
            self._told(self.session.begin_blind())
        self.show_tracks()
        self.refresh_bindings()

    def end_test(self, *, stay: bool = False) -> None:
        """A blind test that goes on ends; what came out is noted, and told: an item that goes takes no tally with it.

        `stay`: the item stays, and the result in place of its tracks until a key is pressed.
        """
        self._result = None
        if self._session is None or self._session.blind is None:
            return
        result, session = self._session.end_blind(), self._session
        if result is not None:
            self._do(lambda: session.keep_test(result))
            self._result = result if stay else None
            if not stay:
                self.tell(f"blind test ended: {result.tally} ({' against '.join(result.pair)})")
        elif not stay:
            self.tell("blind test ended: no answer yet")
        self.refresh_bindings()

    def on_blind_panel_seen(self) -> None:
        """Back to the tracks; this key was for the result."""
        self._result = None
        self._calm()
        self.show_tracks()
        self.refresh_bindings()

    def action_answer(self, says_second: bool) -> None:
        """X is A, or B."""
        self.session.answer(says_second)
        self.show_tracks()

    # --- the device

    def action_device(self) -> None:
        """Choose what to play on."""
        root = deck_of(self).home.root

        def chosen(name: str | None) -> None:
            if name is None:
                return
            try:
                keep_device(root, name or None)
            except WavedeckError as error:
                self.tell(str(error), "error")
            self.session.play_on(self.new_player())
            self._tick()

        self.app.push_screen(DeviceAsk(self.session.state.device, wanted_device(root), forced_device()), chosen)

    # --- what is shown of it

    def _tick(self) -> None:
        """Move the playhead; draw the player's line when it says something else."""
        if self._session is None:
            return
        state = self.session.state
        if state == self._state:
            return
        self._state = state
        stack = self.query_one(TrackStack)
        stack.position_s = state.position_s if self.session.voices else None
        stack.loop = state.loop
        reason = self.query_one("#reason", Static)
        words = f"! no sound: {plain(state.error, 300)}" if state.error else ""
        reason.set_class(not self._asked_to_play, "short")
        if reason.display != bool(words) or words != str(reason.content):
            reason.display = bool(words)
            reason.update(words)
        self._show_transport(state)

    def _show_transport(self, state: PlayerState) -> None:
        """The player's line; while only the playhead moves, no more often than it can be read."""
        words = "nothing to play" if self.session.item is None else ""
        transport, shown = self.query_one(Transport), transport_state(self.session, state, words)
        before = transport.state
        if state.playing and before.player is not None and shown.player is not None:
            there = before.player.position_s
            still = replace(shown, player=replace(shown.player, position_s=there))
            if abs(state.position_s - there) < READ_S and before == still:
                return
        transport.state = shown

    def _calm(self) -> None:
        """Something was closed: an escape that follows at once was meant for it, and does not leave the screen."""
        self._closed_at = time.monotonic()

    # --- what is said

    def _do(self, change: object) -> None:
        """Rate or note; what fails is said."""
        try:
            change()  # type: ignore[operator]
        except WavedeckError as error:
            self.tell(str(error), "error")
        self.show_facts()

    def _told(self, sentence: str | None) -> None:
        if sentence is not None:
            self.tell(sentence, "warning")

    def tell(self, text: str, severity: str = "information") -> None:
        """A sentence in the corner above the player's line."""
        self.app.notify(plain(text, 600), severity=severity, markup=False)  # type: ignore[arg-type]
