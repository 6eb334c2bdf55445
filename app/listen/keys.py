"""The keys of the Listen screen, with what they are for."""

from __future__ import annotations

from textual.binding import Binding, BindingType

SHIFTED = (
    "shift+1,exclamation_mark",
    "shift+2,at",
    "shift+3,number_sign",
    "shift+4,dollar_sign",
    "shift+5,percent_sign",
    "shift+6,circumflex_accent",
    "shift+7,ampersand",
    "shift+8,asterisk",
    "shift+9,left_parenthesis",
)
"""What shift makes of the digits on most keyboards; `A` does the same on all."""
LISTEN_BINDINGS: list[BindingType] = [
    Binding("space", "play", "Play", id="listen.play", tooltip="Play or pause", priority=True),
    Binding("a", "letter('a')", "A/B", key_display="a b", id="listen.a", tooltip="What others are compared to"),
    Binding("A", "answer(False)", "X is A", id="listen.answer-a", tooltip="Answer the blind test: X is A"),
    Binding("B", "answer(True)", "X is B", id="listen.answer-b", tooltip="Answer the blind test: X is B"),
    Binding("n", "null", "Null", id="listen.null", tooltip="Hear and see the difference of a and b"),
    Binding("x", "blind", "ABX", id="listen.blind", tooltip="Blind test: is X A or B?"),
    Binding("tab", "page(1)", "Page", id="listen.page", tooltip="Text, classes, confusion, parameters, facts",
            priority=True),
    Binding("f,slash", "filter", "Filter", key_display="f", id="listen.filter",
            tooltip="wer>0.3 label:flam* tag:hard text~word"),
    Binding("escape", "back", "Back", id="listen.back-to-run", tooltip="End the test, clear the filter, leave"),
    Binding("question_mark", "app.help", "Help", id="listen.help", tooltip="Every key of this screen"),
    Binding("s", "step(True)", "Step", id="listen.step", tooltip="This item at the next step"),
    Binding("c", "compare", "Compare", id="listen.compare", tooltip="Hear another run's tracks of this item"),
    Binding("left_square_bracket", "loop_start", "Loop", key_display="[ ]", id="listen.loop",
            tooltip="The loop begins at the playhead; ] ends it"),
    Binding("e", "export", "Export", id="listen.export", tooltip="WAV or FLAC of a track, a region, the list; files"),
    Binding("r", "rating", "Rate", id="listen.rate", tooltip="Rate the item: r, then 1 to 5; 0 takes it back"),
    # what is not shown, or shown last
    Binding("left", "seek(-1)", show=False, id="listen.back", tooltip="Back by a second", priority=True),
    Binding("right", "seek(1)", show=False, id="listen.on", tooltip="On by a second", priority=True),
    Binding("shift+left", "stack('pan(-1)')", show=False, id="listen.earlier", tooltip="See what is earlier"),
    Binding("shift+right", "stack('pan(1)')", show=False, id="listen.later", tooltip="See what is later"),
    Binding("right_square_bracket", "loop_end", show=False, id="listen.loop-end", tooltip="The loop ends here"),
    Binding("backspace", "no_loop", show=False, id="listen.no-loop", tooltip="Play on, no loop"),
    Binding("plus,equals_sign", "stack('zoom(1)')", show=False, id="listen.zoom-in", tooltip="Zoom in"),
    Binding("minus", "stack('zoom(-1)')", show=False, id="listen.zoom-out", tooltip="Zoom out"),
    Binding("0", "digit(0)", show=False, id="listen.whole", tooltip="See the whole clip"),
    Binding("z", "stack('zoom_loop')", show=False, id="listen.zoom-loop", tooltip="See only the loop"),
    Binding("v", "stack('next_show')", "Pictures", show=False, id="listen.pictures",
            tooltip="Waveforms, spectrograms or both"),
    Binding("comma", "gain(-1)", show=False, id="listen.softer", tooltip="Softer by 1.5 dB", priority=True),
    Binding("full_stop", "gain(1)", show=False, id="listen.louder", tooltip="Louder by 1.5 dB", priority=True),
    Binding("b", "letter('b')", show=False, id="listen.b", tooltip="Hear the other track, the one last heard"),
    *[
        Binding(str(n), f"digit({n})", show=False, id=f"listen.track{n}", tooltip=f"Hear track {n}")
        for n in range(1, 10)
    ],
    *[
        Binding(key, f"refer({n})", show=False, key_display=f"shift+{n + 1}", id=f"listen.refer{n + 1}",
                tooltip=f"Compare with track {n + 1}: a, n and x take it")
        for n, key in enumerate(SHIFTED)
    ],
    Binding("A", "refer", show=False, id="listen.refer", tooltip="Compare with the heard track: a, n and x take it"),
    Binding("m", "match", "Match", show=False, id="listen.match", tooltip="Equal loudness, or levels as they are"),
    Binding("S", "steps", show=False, id="listen.steps", tooltip="The heard track at every step beside each other"),
    Binding("g", "group", "Group", show=False, id="listen.group", tooltip="By label, by prediction, by tag, or not",
            priority=True),
    Binding("o", "sort", "Sort", show=False, id="listen.sort", tooltip="Sort by the next metric, worst first"),
    Binding("O", "turn_round", show=False, id="listen.reverse", tooltip="Turn the order round"),
    Binding("w", "next_set", "Set", show=False, id="listen.set", tooltip="Another set of samples of this run"),
    Binding("N", "note", "Note", show=False, id="listen.note", tooltip="Write a note on the item"),
    Binding("F", "files", "Files", show=False, id="listen.files", tooltip="The files attached to the item"),
    Binding("D", "device", "Device", show=False, id="listen.device", tooltip="Which sound device to play on"),
    Binding("shift+tab", "page(-1)", show=False, id="listen.page-before", tooltip="The page before", priority=True),
    Binding("d", "details", show=False, id="listen.details", tooltip="The page larger, gone, as it was"),
    Binding("p", "focus_next_part", show=False, id="listen.part", tooltip="Keys go to list, tracks or page"),
]  # fmt: skip
"""The first ones are shown at the foot of a terminal of 80 columns, a wider one shows more of them."""
IN_A_TEST = ("steps", "step", "compare", "match", "export", "refer", "device")
"""What would give a blind test away, or end it, and is not offered in one."""
WITH_AN_ITEM = (
    "play", "letter", "null", "blind", "filter", "step", "compare", "loop_start", "export", "rating", "page", "files",
)  # fmt: skip
"""What is not offered in a set without one item."""
