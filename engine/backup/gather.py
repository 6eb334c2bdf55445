"""The evidence of `safety` from a run's records here; what only its host can tell is passed in."""

from __future__ import annotations

from ..checkpoints import read_checkpoints
from ..hosts import read_mirror
from ..run_view import RunView
from ..rundir import Home, RunDir
from .copies import read_copies
from .places import locate
from .policy import read_policy
from .safety import RunEvidence, Uncovered


def gather(
    home: Home,
    view: RunView,
    *,
    samples_behind: int | None = None,
    journal_behind: int | None = None,
    uncovered: tuple[Uncovered, ...] | None = None,
    unseen: tuple[str, ...] = (),
    newer_there: bool = False,
    link_up: bool = True,
    heard: float | None = None,
) -> RunEvidence:
    """What is known of a run. What is not passed is unknown, and so not safe.

    Raises
    ------
    WavedeckError: a record of the run, or `backup.toml`, is damaged. OSError: a file cannot be read.
    """
    run = RunDir(view.dir)
    mirror = read_mirror(run.path)
    policy = read_policy(home, run)
    copies = read_copies(run).at_second(policy.second)
    located = locate(run, view.manifest, mirror, copies, policy) if view.manifest is not None else []
    local = mirror is None
    return RunEvidence(
        view=view,
        located=tuple(located),
        copies=copies,
        policy=policy,
        skew_s=0.0 if mirror is None else mirror.skew_s,
        samples_behind=0 if local else samples_behind,
        journal_behind=0 if local else journal_behind,
        uncovered=uncovered,
        unseen=unseen,
        newer_there=newer_there,
        ever_saved=bool(read_checkpoints(run.checkpoint_manifest)),
        link_up=link_up,
        heard=heard,
    )
