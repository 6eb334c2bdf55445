"""The tracks of the Listen screen: a `TrackStack` that is never drawn from the picture of another size."""

from __future__ import annotations

from textual.geometry import Region
from textual.strip import Strip

from ...widgets.track_stack import TrackStack


class ListenStack(TrackStack):
    """Textual may draw a widget in its new size before it hears of its `Resize`, most easily while a playhead moves."""

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows, painted anew first where the picture has another size."""
        grid = self.picture.grid
        if (grid.width, grid.height) != tuple(self.size):
            self.watch_tracks()
        return super().render_lines(crop)
