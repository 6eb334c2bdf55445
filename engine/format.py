"""Numbers, durations and sizes as people read them. The only place that formats; missing is always `–`."""

from __future__ import annotations

import math
import time

MISSING = "–"


def number(value: float | None, digits: int = 4) -> str:
    """A metric: `digits` significant digits, plain where that is short, otherwise with an exponent."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    if float(value).is_integer() and abs(value) < 10**7:
        return str(int(value))
    magnitude = math.floor(math.log10(abs(value)))
    if -4 <= magnitude < 7:
        return f"{value:.{max(0, digits - 1 - magnitude)}f}"
    return f"{value:.{max(0, digits - 2)}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def amount(value: float | None) -> str:
    """A number of things where it is whole (`27,900,000`), otherwise as a metric."""
    whole = value is not None and math.isfinite(value) and float(value).is_integer()
    return count(value) if whole else number(value)


def change(value: float | None, before: float | None) -> str:
    """The signed difference to the row before, `▲0.12` or `▼0.12`; `=` for none."""
    if value is None or before is None or not (math.isfinite(value) and math.isfinite(before)):
        return ""
    difference = value - before
    if difference == 0:
        return "="
    return f"{'▲' if difference > 0 else '▼'}{number(abs(difference), 3)}"


def count(value: float | None) -> str:
    """A count with thousands separators: `54,321`."""
    return MISSING if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """`12s`, `3m 20s`, `2h 05m`, `4d 6h`."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}m"
    return f"{hours // 24}d {hours % 24}h"


def ago(then: float | None, now: float | None = None) -> str:
    """How long ago a time was: `12s ago`."""
    if then is None:
        return MISSING
    return f"{duration((time.time() if now is None else now) - then)} ago"


def size(bytes_: float | None) -> str:
    """Bytes in binary units: `1.5 GiB`."""
    if bytes_ is None:
        return MISSING
    value = float(bytes_)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def rate(per_second: float | None, unit: str = "step") -> str:
    """`3.2 step/s`, or `14s/step` when slower than one a second."""
    if per_second is None or per_second <= 0 or not math.isfinite(per_second):
        return MISSING
    if per_second >= 1:
        return f"{per_second:.{1 if per_second < 100 else 0}f} {unit}/s"
    return f"{1 / per_second:.1f}s/{unit}"


def percent(fraction: float | None) -> str:
    """`42%` of a fraction."""
    return MISSING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.0f}%"


def clock(then: float | None) -> str:
    """Local date and time, `2026-11-20 17:59:03`."""
    return MISSING if then is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


def money(amount: float | None) -> str:
    """`$2.50`; `$0.0073` for what is less than a cent."""
    if amount is None:
        return MISSING
    return f"${amount:.4f}" if 0 < abs(amount) < 0.01 else f"${amount:.2f}"


def plain(text: str, limit: int = 500) -> str:
    """Text from a run made safe for a terminal: control characters become `·`, and it is at most `limit` long."""
    clean = "".join(char if char.isprintable() else "·" for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
