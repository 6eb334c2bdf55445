"""A host in words and colours: its link, its age, what to do. Shared by the table, the header and the title bar.

Everything a host said of itself is made plain here or where it is drawn; nothing of it is markup.
"""

from __future__ import annotations

from rich.style import Style
from rich.text import Text

from ..engine import format as fmt
from ..engine.hosts import HostView, LinkState
from .palette import BOLD, Palette

LOST_AFTER_S = 15.0
"""A link that is up and has been silent for this long gets its age said."""
ENDS_SOON_S = 3600.0

ADVICE = {
    LinkState.OFF: "Nobody watches it now: r connects.",
    LinkState.CONNECTING: "",
    LinkState.RECONNECTING: "Runs there go on without us; r tries now.",
    LinkState.REFUSED: "It answers but does not let us in: check user and key of its ssh line, then r tries again.",
    LinkState.KEY_UNKNOWN: "It was never seen before: r asks whether its key is right.",
    LinkState.KEY_CHANGED: "Nothing was sent to it. If the machine was made anew, compare the fingerprint with your "
    "provider's page or with `ssh-keygen -lf` on its own console; T shows both keys and takes the new one. "
    "If not, somebody may be listening: leave it as it is.",
    LinkState.PAUSED: "",
}
"""What its user can do about a link, as sentences."""


def link_style(link: LinkState, palette: Palette) -> Style:
    """How a link's state looks."""
    if link is LinkState.CONNECTED:
        return palette.good
    if link.needs_user:
        return palette.bad + BOLD
    return palette.muted if link is LinkState.OFF else palette.warn


def link_text(view: HostView, palette: Palette, now: float) -> Text:
    """`● connected`, `↻ reconnecting in 4 s`; this machine is `● this machine`."""
    words = "this machine" if view.is_local and view.link.up else view.link_words(now)
    return Text(f"{view.link.mark} {words}", style=link_style(view.link, palette))


def is_stale(view: HostView) -> bool:
    """Whether what is shown of it is its last known picture."""
    return not view.link.up and not view.is_local


def age_words(view: HostView, now: float) -> str:
    """`3m ago`, coarse; empty when nothing was ever heard."""
    return "" if view.heard is None else f"{coarse(now - view.heard)} ago"


def coarse(seconds: float) -> str:
    """A duration in its largest unit, so that it does not change with every look: `3m`, `2h`."""
    whole = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"


def left_text(view: HostView, palette: Palette, now: float) -> Text:
    """Time until the provider takes it back."""
    if view.ends is None:
        return Text("")
    left = view.ends - now
    if left <= 0:
        return Text(f"over {coarse(-left)}", style=palette.bad)
    return Text(fmt.duration(left), style=palette.warn if left < ENDS_SOON_S else palette.text)
