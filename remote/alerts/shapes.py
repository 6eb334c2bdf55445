"""An alert in the words of each service: body and headers of one POST, as pure functions.

Titles and texts hold what a run printed. So nothing in them may mention people (`@everyone`), be markup, or begin a
new header line; and no service gets more than it takes, since most refuse a message that is too long instead of cutting
it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...engine.alerts.alert import Alert, Severity

SLACK_TEXT, SLACK_HEADER, SLACK_SECTION = 3900, 150, 3000
DISCORD_CONTENT, DISCORD_TITLE, DISCORD_DESCRIPTION = 2000, 256, 4096
NTFY_BODY, NTFY_TITLE = 3500, 200
"""ntfy turns a body of more than 4,096 bytes into an attachment."""
_COLOURS = {Severity.INFO: 0x3BA55D, Severity.WARNING: 0xFAA61A, Severity.ERROR: 0xED4245}
_EMOJI = {Severity.INFO: "ℹ️", Severity.WARNING: "⚠️", Severity.ERROR: "🔴"}
_TAGS = {Severity.INFO: "information_source", Severity.WARNING: "warning", Severity.ERROR: "rotating_light"}
_PRIORITIES = {Severity.INFO: "3", Severity.WARNING: "4", Severity.ERROR: "5"}
_MARKDOWN = re.compile(r"([\\*_~`|>\[\]()#])")


@dataclass(frozen=True, slots=True)
class Post:
    """What is posted."""

    body: bytes
    headers: tuple[tuple[str, str], ...]


def slack_post(alert: Alert) -> Post:
    """Slack's incoming webhook: `text` for the notification, blocks of plain text (no markup) for the message."""
    title = f"{emoji(alert)} {alert.title}"
    blocks: list[dict[str, Any]] = [{"type": "section", "text": _plain_text(title, SLACK_SECTION)}]
    if alert.text:
        blocks.append({"type": "section", "text": _plain_text(alert.text, SLACK_SECTION)})
    blocks.append({"type": "context", "elements": [_plain_text(_footer(alert), SLACK_HEADER)]})
    # `text` is mrkdwn whatever the blocks are: `<!channel>` in a traceback must not wake everybody.
    return _json_post({"text": _cut(_slack_escaped(title), SLACK_TEXT), "blocks": blocks})


def discord_post(alert: Alert) -> Post:
    """Discord's webhook: the title as content (it is what a notification shows), the rest as an embed."""
    embed: dict[str, Any] = {
        "title": _cut(f"{alert.severity}: {alert.rule}", DISCORD_TITLE),
        "color": _COLOURS[Severity.INFO if alert.recovered else alert.severity],
        "timestamp": _iso(alert.t),
        "footer": {"text": _cut(_footer(alert), 200)},
    }
    if alert.text:
        embed["description"] = _cut(_discord_escaped(alert.text), DISCORD_DESCRIPTION)
    content = _cut(f"{emoji(alert)} {_discord_escaped(alert.title)}", DISCORD_CONTENT)
    return _json_post({"content": content, "embeds": [embed], "allowed_mentions": {"parse": []}})


def ntfy_post(alert: Alert) -> Post:
    """ntfy: the text is the body, title, priority and tags are headers."""
    tag = "white_check_mark" if alert.recovered else _TAGS[alert.severity]
    headers = (
        ("Title", _header(alert.title[:NTFY_TITLE])),
        ("Priority", "3" if alert.recovered else _PRIORITIES[alert.severity]),
        ("Tags", tag),
        ("Content-Type", "text/plain; charset=utf-8"),
    )
    body = alert.text or _footer(alert)
    return Post(body.encode()[:NTFY_BODY].decode("utf-8", "ignore").encode(), headers)


def json_post(alert: Alert) -> Post:
    """The alert itself (docs/babysit.md lists the keys), for services of one's own."""
    return _json_post({"wavedeck": 1, **alert.to_json(), "time": _iso(alert.t)})


SHAPES: dict[str, Callable[[Alert], Post]] = {
    "slack": slack_post,
    "discord": discord_post,
    "ntfy": ntfy_post,
    "json": json_post,
}


def emoji(alert: Alert) -> str:
    """What stands before the title where pictures are understood."""
    return "✅" if alert.recovered else _EMOJI[alert.severity]


def _plain_text(text: str, limit: int) -> dict[str, Any]:
    return {"type": "plain_text", "text": _cut(text, limit), "emoji": False}


def _slack_escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _discord_escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _footer(alert: Alert) -> str:
    place = [part for part in (alert.run, alert.host if alert.host != "local" else None) if part]
    return " · ".join(["Wavedeck", str(alert.severity), *place])


def _iso(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat(timespec="milliseconds")


def _cut(text: str, limit: int) -> str:
    """At most `limit` UTF-16 units, which is what these services count."""
    while len(text.encode("utf-16-le")) // 2 > limit:
        excess = len(text.encode("utf-16-le")) // 2 - limit
        text = text[: max(0, len(text) - (excess + 1) // 2 - 1)] + "…"
    return text


def _header(text: str) -> str:
    """A header's value: as it is in ASCII, as RFC 2047 has it otherwise (ntfy reads that)."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if line.isascii() else f"=?UTF-8?B?{base64.b64encode(line.encode()).decode()}?="


def _json_post(document: dict[str, Any]) -> Post:
    return Post(json.dumps(document, ensure_ascii=False).encode(), (("Content-Type", "application/json"),))
