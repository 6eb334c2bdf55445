"""All runs of a home, as complete frozen views: what `ps`, `show` and the Runs screen print.

One unreadable run says so in its own row and costs the others nothing. Summaries are cached in one file, so that
listing 200 runs reads only what is new.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from .assemble import Found, assemble, covers, modified
from .backup.copies import read_copies
from .backup.policy import host_policy, read_policy
from .errors import RunDirError, UsageError, WavedeckError
from .files import write_atomic
from .hosts import LOCAL, MIRROR_FILE, MirrorRecord, read_mirror
from .journal import WHOLE, Budget, JournalReader
from .lineage import ancestors, read_lease, read_moved
from .manifest import (
    Attempt,
    ExitRecord,
    SupervisorRecord,
    read_manifest,
    read_record,
)
from .names import RUN_ID, resolve
from .run_view import RunView
from .rundir import Home, RunDir
from .state import RunState
from .summary import SUMMARY_VERSION, Summary

Probe = Callable[[str, SupervisorRecord], bool | None]
"""Asks whether a run's supervisor is alive; None when its host cannot be asked."""

Far = Callable[[str, str, int], tuple[bool | None, float | None]]
"""Asked for a run of another host, by host, run id and attempt: whether its supervisor lives (None: that cannot be
known now) and when the host was last heard."""

MANIFEST = "manifest.json"
CACHE_FILE = f"summaries-{SUMMARY_VERSION}.msgpack"
CACHE_EVERY_S = 10.0
FINAL = frozenset({RunState.FINISHED, RunState.FAILED, RunState.STOPPED, RunState.KILLED})
"""States that are told by an exit record; the others may change without a file changing."""
PIECE = Budget(records=16_000, seconds=float("inf"))


class Position(msgspec.Struct, array_like=True):
    """How far a journal was read."""

    offset: int = 0
    inode: int | None = None


class Cached(msgspec.Struct, omit_defaults=True):
    """One run in the summary cache: two journals and the summaries of each."""

    events: Position = msgspec.field(default_factory=Position)
    console: Position = msgspec.field(default_factory=Position)
    trainer: Summary = msgspec.field(default_factory=Summary)
    spoken: Summary = msgspec.field(default_factory=Summary)


class _Tagged(msgspec.Struct):
    tags: list[str] = []


class Catalog:
    """Lists and resolves the runs under a home.

    Parameters
    ----------
    probe: asks whether a supervisor is alive; called only for runs that have not recorded their end.
    far: the same for runs of other hosts; by default nobody knows.
    """

    def __init__(
        self,
        home: Home,
        probe: Probe,
        clock: Callable[[], float] = lambda: time.time(),
        far: Far = lambda host, run_id, attempt: (None, None),
    ) -> None:
        self.home = home
        self._probe = probe
        self._far = far
        self._clock = clock
        self._cache: dict[str, Cached] | None = None
        self._dirty = False
        self._saved = -CACHE_EVERY_S
        self._ended: dict[str, tuple[tuple[int, ...], RunView]] = {}
        self._created: dict[str, float] = {}
        self.more = False
        """Whether the last `views` left something unread because of its budget."""

    def ids(self) -> list[str]:
        """Ids of all runs, oldest first."""
        try:
            entries = list(self.home.runs.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RunDirError(f"{self.home.runs} cannot be read ({error.strerror}).") from error
        names = [entry.name for entry in entries if RUN_ID.match(entry.name) and entry.is_dir()]
        return sorted(names, key=self._age_key)

    def _age_key(self, run_id: str) -> tuple[float, str]:
        """When a run was created: an id knows the minute only, and no summer time. A manifest is written once."""
        created = self._created.get(run_id)
        if created is None:
            run = RunDir(self.home.runs / run_id)
            try:
                created = read_manifest(run.manifest).created
            except (RunDirError, OSError):
                return modified(run.path) or 0.0, run_id
            self._created[run_id] = created
        return created, run_id

    def resolve(self, word: str) -> RunDir:
        """The run that `word` means: see `names.resolve`; a tag that only one run has means that run."""
        ids = self.ids()
        try:
            return self.home.run(resolve(word, ids))
        except UsageError:
            tagged = self.tagged(word)
            if len(tagged) == 1:
                return self.home.run(tagged[0])
            if tagged:
                words = f"{word!r} is the tag of {len(tagged)} runs: `wavedeck ps --tag {word}` lists them."
                raise UsageError(words) from None
            # one name for a run and what it went on as: the one that goes on is meant
            going_on = [run_id for run_id in ids if not self.home.run(run_id).moved.exists()]
            if not going_on or len(going_on) == len(ids):
                raise
            with contextlib.suppress(UsageError):
                return self.home.run(resolve(word, going_on))
            raise

    def tagged(self, word: str) -> list[str]:
        """Ids of the runs that were launched with this tag, oldest first."""
        decoder = msgspec.json.Decoder(_Tagged)
        found = []
        for run_id in self.ids():
            try:
                tags = decoder.decode(self.home.run(run_id).manifest.read_bytes()).tags
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if word in tags:
                found.append(run_id)
        return found

    def view(self, run: RunDir, budget: Budget = WHOLE) -> RunView:
        """One run, now. Reads at most `budget` of its journals; call again to go on."""
        try:
            return self._view(run, budget)
        except RunDirError as error:
            return RunView(id=run.id, dir=run.path, state=RunState.UNREADABLE, problem=str(error))
        except OSError as error:
            problem = f"{Path(error.filename or run.path).name} cannot be read: {error.strerror}."
            return RunView(id=run.id, dir=run.path, state=RunState.UNREADABLE, problem=problem)
        except (ValueError, ArithmeticError, TypeError) as error:  # contents nobody foresaw; the other runs must show
            problem = f"its records make no sense here ({type(error).__name__}: {error})."
            return RunView(id=run.id, dir=run.path, state=RunState.UNREADABLE, problem=problem)

    def views(self, budget: Budget = WHOLE) -> list[RunView]:
        """All runs, oldest first."""
        self.more = False
        views = [self._remembered(RunDir(self.home.runs / run_id), budget) for run_id in self.ids()]
        if time.monotonic() - self._saved >= CACHE_EVERY_S:
            self.save_cache()
        return views

    def _remembered(self, run: RunDir, budget: Budget) -> RunView:
        """An ended run whose files have not changed costs a few `stat` calls, nothing else."""
        stamp = _stamp(run)
        known = self._ended.get(run.id)
        if known is not None and known[0] == stamp:
            return known[1]
        read = self.more
        self.more = False
        view = self.view(run, budget)
        if not self.more and view.state in FINAL:
            self._ended[run.id] = (stamp, view)
        else:
            self._ended.pop(run.id, None)
        self.more = self.more or read
        return view

    def _view(self, run: RunDir, budget: Budget) -> RunView:
        manifest = read_manifest(run.manifest)
        attempt = newest_attempt(run)
        supervisor = read_record(run.supervisor, SupervisorRecord) if attempt else None
        exit_ = read_record(run.exit, ExitRecord) if attempt else None
        mirror = read_mirror(run.path)
        alive, heard = None, None
        if attempt and not covers(exit_, attempt):
            if mirror is not None:
                alive, heard = self._far(mirror.host, run.id, attempt.attempt)
            elif covers(supervisor, attempt):
                assert supervisor is not None
                alive = self._probe(run.id, supervisor)
            if alive is False:
                exit_ = read_record(run.exit, ExitRecord)
        cached = self._summarise(run, budget)
        beside = {**_beside(self.home, run, mirror), **_earlier(run, attempt)}
        found = Found(manifest, attempt, supervisor, exit_, mirror, alive, heard, **beside)
        before = self._before(run, budget) if manifest.parent else []
        return assemble(run, found, cached.trainer, cached.spoken, self._clock(), before)

    def _before(self, run: RunDir, budget: Budget) -> list[tuple[Summary, Summary, int]]:
        """What the runs told that a moved run goes on from."""
        told = []
        for parent, step in ancestors(self.home, run):
            cached = self._summarise(parent, budget)
            told.append((cached.trainer, cached.spoken, step))
        return told

    def _summarise(self, run: RunDir, budget: Budget) -> Cached:
        cache = self._load_cache()
        cached = cache.setdefault(run.id, Cached())
        if self._advance(run.events, cached.events, budget):
            cached.trainer = Summary()
        self._take(run.events, cached.events, cached.trainer, None, budget)
        if self._advance(run.console_events, cached.console, budget):
            cached.spoken = Summary()
        self._take(run.console_events, cached.console, cached.spoken, cached.trainer, budget)
        return cached

    @staticmethod
    def _advance(path: Path, position: Position, budget: Budget) -> bool:
        """Whether the journal was truncated or replaced since it was read."""
        try:
            status = path.stat()
        except OSError:
            return False
        moved = position.inode is not None and position.inode != status.st_ino
        if moved or status.st_size < position.offset:
            position.offset, position.inode = 0, None
            return True
        return False

    def _take(self, path: Path, position: Position, summary: Summary, known: Summary | None, budget: Budget) -> None:
        try:
            if position.offset and path.stat().st_size == position.offset:
                return
        except OSError:
            return
        reader = JournalReader(path, position.offset, position.inode)
        while True:  # in pieces: a whole million rows at once would cost half a gigabyte
            batch = reader.poll(PIECE if budget is WHOLE else budget)
            summary.absorb(batch.events, only_new_keys_than=known)
            summary.bad_lines += batch.bad_lines
            if budget is not WHOLE or not batch.more:
                break
        self.more = self.more or batch.more
        if reader.offset != position.offset:
            self._dirty = True
        position.offset, position.inode = reader.offset, reader.inode

    def _load_cache(self) -> dict[str, Cached]:
        if self._cache is None:
            try:
                data = (self.home.cache / CACHE_FILE).read_bytes()
                self._cache = msgspec.msgpack.decode(data, type=dict[str, Cached])
            except (OSError, msgspec.DecodeError, msgspec.ValidationError):
                self._cache = {}
        return self._cache

    def save_cache(self) -> None:
        """Keep the summaries for the next process; a home that cannot be written merely stays slower."""
        self._saved = time.monotonic()
        if not self._dirty or self._cache is None:
            return
        present = set(self.ids())
        kept = {run_id: cached for run_id, cached in self._cache.items() if run_id in present}
        with contextlib.suppress(OSError):
            self.home.cache.mkdir(parents=True, exist_ok=True)
            write_atomic(self.home.cache / CACHE_FILE, msgspec.msgpack.encode(kept), durable=False)
            self._dirty = False


def newest_attempt(run: RunDir) -> Attempt | None:
    """The newest launch or resume that was asked for."""
    try:
        names = [entry.name for entry in run.attempts.iterdir() if entry.name.endswith(".json")]
    except FileNotFoundError:
        return None
    numbers = sorted(name for name in names if name[:-5].isdigit())
    return read_record(run.attempts / numbers[-1], Attempt) if numbers else None


def _earlier(run: RunDir, newest: Attempt | None) -> dict[str, Attempt | None]:
    """The first attempt, and the newest that trained where those after it only judged a checkpoint."""
    if newest is None or newest.attempt == 1:
        return {}
    found = {"first": _attempt_or_none(run, 1)}
    if newest.after is not None:
        before = (_attempt_or_none(run, number) for number in range(newest.attempt - 1, 0, -1))
        found["trained"] = next((one for one in before if one is not None and one.after is None), None)
    return found


def _attempt_or_none(run: RunDir, number: int) -> Attempt | None:
    """An earlier attempt, which a run can be shown without."""
    try:
        return read_record(run.attempt(number), Attempt)
    except RunDirError:
        return None


def _beside(home: Home, run: RunDir, mirror: MirrorRecord | None) -> dict[str, Any]:
    """Records that a run can be shown without; what is damaged in them becomes a sentence."""
    with os.scandir(run.path) as entries:  # most runs have none of them: one look instead of four
        there = {entry.name for entry in entries}
    host = LOCAL if mirror is None else mirror.host
    own_policy = run.policy.name in there
    readers: list[tuple[str, bool, Callable[[], object]]] = [
        ("lease", run.lease.name in there, lambda: read_lease(run)),
        ("moved", run.moved.name in there, lambda: read_moved(run)),
        ("copies", run.backup.name in there, lambda: read_copies(run)),
        ("policy", True, lambda: read_policy(home, run) if own_policy else host_policy(home, host)),
    ]
    found: dict[str, Any] = {}
    for name, present, read in readers:
        if not present:
            continue
        try:
            found[name] = read()
        except (WavedeckError, OSError) as error:
            text = str(error) if isinstance(error, WavedeckError) else f"its {name} cannot be read: {error.strerror}."
            found["problem"] = f"{found['problem']} {text}" if "problem" in found else text
    return found


_STAMPED = (
    MANIFEST, "attempts", "supervisor.json", "exit.json", "events.jsonl", "console.jsonl", "checkpoints",
    "checkpoints/manifest.jsonl", MIRROR_FILE, "backup.jsonl", "policy.json", "lease.json", "moved.json",
    "../../backup.toml",
)  # fmt: skip
"""What a view is made from, relative to the run's directory."""


def _stamp(run: RunDir) -> tuple[int, ...]:
    """Change times and sizes of everything a view is made from."""
    base = f"{run.path}/"  # plain strings: paths cost more than the calls themselves
    stamp: list[int] = []
    for name in _STAMPED:
        try:
            status = os.stat(base + name)
        except OSError:
            stamp.append(-1)
        else:
            stamp += (status.st_ctime_ns, status.st_size, status.st_ino)
    return tuple(stamp)


def refuse_unreadable(view: RunView) -> RunView:
    """The same view, or its problem as an error: for verbs that need a whole run."""
    if view.state is RunState.UNREADABLE:
        raise UsageError(f"{view.id}: {view.problem}")
    return view
