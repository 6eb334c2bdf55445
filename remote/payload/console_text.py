"""Words and numbers of console output: cleaning a line, reading a value with its unit, judging a key.

Values are returned in one unit per kind, so that a series never mixes them: durations in seconds, sizes in bytes,
percentages as printed (87.2 for `87.2%`), `1.2k` as 1200. A key is judged by its words: *metric* words are evidence
that a line reports training, *setting* words (`batch_size`, `max_grad_norm`) are evidence that it prints a
configuration.

Every pattern here has bounded repeats and no two adjacent ones that match the same text: time stays linear in the
line.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Dict, Optional, Tuple, Union

Number = Union[int, float]

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)?"
    r"|[PX^_][^\x1b]{0,2048}(?:\x1b\\)?|[ -/]{0,4}[0-~])?"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]+")
_WRAPPED = re.compile(r"(?:tensor|np\.float\d\d|np\.int\d\d|Array|array)\(\s?([-+.\w]{1,32})(?:,[^()]{0,80})?\)")

_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,6}(?:\.\d{1,20})?|\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,4})?"
_WORDS = r"(?:nan|NaN|NAN|inf|Inf|INF|infinity|Infinity)"
_UNIT = (
    r"%|\s?(?:ms|us|µs|ns|secs?|seconds?|mins?|minutes?|hrs?|hours?|s|m|h)"
    r"|\s?(?:[KMGT]i?B)|[kKMG](?![A-Za-z])|\s?(?:it|[a-z]{1,12})/s(?:ec|econd)?"
)
# What may follow a value. `1.2.3`, `12:30`, `0x7f`, `3-step` and `0,53` are something else than a number.
_END = r"(?=$|[\s;|)\]}'\"]|,(?!\d)|\.(?:\s|$))"
VALUE = rf"(?P<number>[-+]?(?:{_DIGITS}|{_WORDS}))(?P<unit>{_UNIT})?{_END}"
_VALUE = re.compile(VALUE)

_SCALE = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "KB": 1e3, "MB": 1e6, "GB": 1e9,
    "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

STEP_NAMES = frozenset(
    "step global_step globalstep iter iteration it update updates num_updates train/global_step trainer/global_step "
    "_step train_step train/step".split()
)
EPOCH_NAMES = frozenset("epoch ep train/epoch current_epoch".split())
_METRIC = frozenset(
    "loss losses nll elbo acc accuracy top1 top5 f1 auc auroc auprc map mse rmse mae mape psnr ssim snr sdr sisdr "
    "wer cer eer der ppl perplexity bleu rouge meteor chrf precision recall specificity sensitivity iou miou dice "
    "jaccard fid fad kid lpips pesq stoi mos dnsmos bpb bpc reward entropy kl kld gnorm gradnorm mfu score corr "
    "pearson spearman mrr ndcg mcd err error ece".split()
)
_SETTING = frozenset(
    (
        "size dim dims num n hidden layers layer heads dropout seed weight weights decay warmup momentum beta "
        "betas eps epsilon threshold patience gamma max smoothing coef coeff coefficient lambda alpha scale params "
        "parameters workers gpus devices interval every freq frequency clip clipping tolerance tol type name fn "
        "function steps epochs total use enable enabled config default "
    ).split()
)
_IDENTITY = frozenset(
    "pid rank gpu port version v_num vnum seed node worker local_rank world_size job line lineno level t ts "
    "timestamp created asctime thread process device run host".split()
)
NEUTRAL = frozenset(
    "lr learning_rate time elapsed eta dt norm grad_norm mfu tok/s tok/sec throughput speed samples/s it/s "
    "step_time iter_time data_time data mem memory".split()
)
"""Keys that say nothing about what kind of line they are on, but are welcome on a line of metrics."""


class PatternError(ValueError):
    """A regular expression of the user's cannot be used; the message is for the user."""


def clean(raw: bytes) -> str:
    """One line as text: invalid UTF-8 becomes U+FFFD, escape sequences and control characters go, tabs stay."""
    text = raw.decode("utf-8", "replace")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    text = _CONTROLS.sub("", text)
    if "(" in text and ("tensor(" in text or "np." in text or "rray(" in text):
        text = _WRAPPED.sub(r"\1", text)
    return text


def number(digits: str, unit: Optional[str] = None) -> Optional[Number]:
    """The value of a matched number with its unit; None when it is no number after all."""
    try:
        value: Number = float(digits.replace(",", ""))
    except ValueError:
        return None
    if unit:
        name = unit.strip()
        factor = _SCALE.get(name) or _SCALE.get(name.rstrip("s"))
        value = value * factor if factor else value
    plain = digits.lstrip("+-").replace(",", "")
    if plain.isdigit() and len(plain) < 16 and math.isfinite(value) and value == int(value):
        return int(value)
    return value


def parse_value(text: str) -> Optional[Number]:
    """A whole cell as a number (`0.53`, `1,234`, `87.2%`, `12.3ms`, `nan`), or None."""
    match = _VALUE.match(text)
    if match is None or match.end() != len(text):
        return None
    return number(match["number"], match["unit"])


def strict(value: Number) -> Union[Number, str]:
    """The value as the journal writes it: NaN and infinities are the strings of strict JSON."""
    if isinstance(value, int) or math.isfinite(value):
        return value
    return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")


@lru_cache(maxsize=2048)
def key_name(key: str) -> str:
    """A printed key as a metric name: `Train Loss` becomes `train_loss`, `WER` and `train/loss` stay."""
    key = key.strip().strip("'\"")
    words = key.replace("(", " ").replace(")", " ").split()
    if len(words) > 1 or (key[:1].isupper() and key[1:].islower()):
        return "_".join(words).lower()
    return key


@lru_cache(maxsize=2048)
def judge(name: str) -> Tuple[bool, bool, bool]:
    """(is a metric, is a setting, names an identity such as a pid) for a metric name, by its words."""
    spread = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    words = [word for word in re.split(r"[^a-z0-9]+", spread) if word]
    bare = [word.rstrip("0123456789") or word for word in words]
    setting = any(word in _SETTING for word in bare) and "per_second" not in spread
    metric = any(word in _METRIC for word in (*words, *bare)) or any(word.endswith("loss") for word in bare)
    metric = metric or ("grad" in bare and "norm" in bare)
    if spread in ("err", "error", "score", "map") and name != "mAP":
        metric = False
    identity = spread in _IDENTITY or (words[-1:] or [""])[0] in ("version", "port", "pid", "seed", "rank")
    return metric and not setting, setting, identity


def compile_patterns(patterns: Union[Tuple[str, ...], list]) -> list:
    """Compile the user's regexes: each needs named groups, which become metrics (`__` in a name becomes `/`).

    Raises PatternError with the number of the pattern, its text, and what is wrong with it.
    """
    compiled = []
    for index, pattern in enumerate(patterns, 1):
        if not isinstance(pattern, str) or len(pattern) > 2000:
            raise PatternError(f"console pattern {index} is not a text of at most 2000 characters")
        try:
            expression = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(f"console pattern {index} ({pattern!r}) is not a regular expression: {error}") from None
        if not set(expression.groupindex) - {"step", "epoch"}:
            raise PatternError(
                f"console pattern {index} ({pattern!r}) has no named group for a metric, such as (?P<loss>[0-9.]+)"
            )
        compiled.append(expression)
    return compiled


def match_pattern(expression: "re.Pattern[str]", text: str) -> Optional[Dict[str, Number]]:
    """The numbers in the named groups of a user's regex on one line, or None when it does not match."""
    match = expression.search(text)
    if match is None:
        return None
    found: Dict[str, Number] = {}
    for name, group in match.groupdict().items():
        value = parse_value(group.strip()) if group else None
        if value is not None:
            found[name.replace("__", "/")] = value
    return found or None
