"""Verbs that start something: run, exec, resume, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...engine.errors import ExitCode, UsageError
from ...engine.hosts import LOCAL
from ...engine.rundir import Home
from .common import (
    JsonOption,
    OverridesArgument,
    PresetOption,
    RecipeArgument,
    RunArgument,
    catalog,
    find,
    print_json,
    say,
)
from .hosts import complete_host
from .places import at
from .queueing import run_batch

if TYPE_CHECKING:
    from ...engine.backup.policy import BackupPolicy
    from ...engine.estimate import Estimate
    from ...engine.planning import Plan, Wish
    from .places import Place

NameOption = Annotated[str | None, typer.Option("--name", help="What to call the run.")]
DetachOption = Annotated[
    bool | None,
    typer.Option(
        "--detach/--attach",
        "-d",
        help="Return at once with the run id, or wait with a live line (the default on a terminal).",
    ),
]
RestartsOption = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        min=0,
        max=100,
        help="Go on by itself so many times after a crash, from the newest checkpoint; 2 for recipes, 0 for `exec`.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, start nothing.")]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="A word to find the run by; may be repeated.")]


HostOption = Annotated[
    str | None,
    typer.Option(
        "--host", help="Where: a host of hosts.toml or an alias of ~/.ssh/config.", autocompletion=complete_host
    ),
]
GpusOption = Annotated[
    str | None, typer.Option("--gpus", help="Which GPUs it may use, as `0,1`; `none` for no GPU. All by default.")
]
FailoverOption = Annotated[
    str | None,
    typer.Option(
        "--failover",
        help="The host that takes over by itself when this one is silent (`wavedeck babysit` or an open deck does it).",
        autocompletion=complete_host,
    ),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="Money it may cost: an alert at 80 % and at all of it.")
]
BackupOption = Annotated[
    list[str] | None,
    typer.Option("--backup", metavar="FIELD=VALUE", help="Its backup policy: keep_last=5, patterns=out/*.pt …"),
]


MultirunOption = Annotated[
    bool, typer.Option("--multirun", "-m", help="A training for each combination of `key=a,b`, one after another.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before queueing very many trainings.")]


def register(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    app.command()(run)
    app.command(name="exec", context_settings={"allow_interspersed_args": False})(execute)
    app.command()(resume)
    app.command()(demo)


def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    preset: PresetOption = None,
    name: NameOption = None,
    host: HostOption = None,
    gpus: GpusOption = None,
    failover: FailoverOption = None,
    budget: BudgetOption = None,
    backup: BackupOption = None,
    restarts: RestartsOption = None,
    tag: TagOption = None,
    multirun: MultirunOption = False,
    yes: YesOption = False,
    detach: DetachOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a recipe: `wavedeck run sousa data=tiny training.lr=1e-3`."""
    from ...engine.batches import check_batch, is_batch
    from ...engine.planning import check_recipe, parse_gpus
    from ...engine.recipe import load_recipe
    from ...remote.backup.policies import asked_policy

    base, _, word = recipe.partition(".")
    home, known, stage, chosen = Home.default(), load_recipe(base), word or None, parse_gpus(gpus)
    wanted, tags, where = overrides or [], tag or [], host or LOCAL
    if multirun or is_batch(known, wanted, preset):
        batch = check_batch(known, wanted, stage=stage, preset=preset, name=name, tags=tags, gpus=chosen)
        policy = asked_policy(home, LOCAL, failover, budget, backup or ())
        how = {"dry_run": dry_run, "yes": yes, "as_json": as_json}
        run_batch(home, batch, where, policy, restarts=restarts, detach=detach, **how)
        return
    wish = check_recipe(known, wanted, stage=stage, preset=preset, name=name, tags=tags, host=where, gpus=chosen)
    policy = asked_policy(home, where, failover, budget, backup or ())
    _run_one(home, wish, policy, restarts, detach=detach, dry_run=dry_run, as_json=as_json)


def _run_one(
    home: Home,
    wish: Wish,
    policy: BackupPolicy,
    restarts: int | None,
    *,
    detach: bool | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start one training that passed its checks, or say what it would be."""
    from ...engine.planning import plan_recipe, with_restarts

    with at(home, wish.host) as place:
        taken = _taken(home)
        plan = plan_recipe(home, wish, taken=taken) if place.is_local else place.prepare(wish, taken, dry_run)
        if dry_run:
            from ...engine.estimate import estimate, machine_of

            guess = estimate(home, wish, machine_of(wish, plan.manifest.price_per_hour))
            _print_plan(with_restarts(plan, restarts), as_json, guess)
            return
        _start(home, place, with_restarts(plan, restarts), policy, detach=detach, dry_run=False, as_json=as_json)


def _taken(home: Home) -> list[str]:
    """Ids whose two words a new run does not get: of runs, and of batches, which every verb takes too."""
    from ...engine.batch_view import batch_ids

    return [*catalog().ids(), *batch_ids(home)]


def execute(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The program and its arguments.")],
    name: NameOption = None,
    cwd: Annotated[Path | None, typer.Option("--cwd", help="Where to run it.")] = None,
    host: HostOption = None,
    gpus: GpusOption = None,
    push: Annotated[
        bool,
        typer.Option(
            "--push/--no-push", help="With --host: send this project there (what .gitignore names stays here), or not."
        ),
    ] = True,
    push_large: Annotated[bool, typer.Option("--push-large", help="Send it however large it is.")] = False,
    env: Annotated[
        str,
        typer.Option("--env", help="With --host: `auto` (from the project's requirements), `none`, or a path there."),
    ] = "auto",
    patterns: Annotated[
        Path | None, typer.Option("--patterns", help="TOML file with your own console patterns (see docs/cli.md).")
    ] = None,
    failover: FailoverOption = None,
    budget: BudgetOption = None,
    backup: BackupOption = None,
    restarts: RestartsOption = None,
    tag: TagOption = None,
    detach: DetachOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Supervise any program: its console is kept, and its metrics are drawn from what it prints."""
    from ...engine.patterns import load_patterns
    from ...engine.planning import parse_gpus, plan_command, with_restarts
    from ...remote.backup.policies import asked_policy

    home = Home.default()
    known, chosen = load_patterns(home, patterns), parse_gpus(gpus)
    policy = asked_policy(home, host or LOCAL, failover, budget, backup or ())
    with at(home, host or LOCAL) as place:
        taken = _taken(home)
        if place.is_local:
            plan = plan_command(command, name=name, cwd=cwd, patterns=known, tags=tag or [], taken=taken, gpus=chosen)
        else:
            from ...remote.provision.provision import Command

            wished = Command(tuple(command), name, cwd, tuple(known), tuple(tag or ()), chosen, push, push_large, env)
            plan = place.prepare(wished, taken, dry_run)
        _start(home, place, with_restarts(plan, restarts), policy, detach=detach, dry_run=dry_run, as_json=as_json)


def _start(
    home: Home,
    place: Place,
    plan: Plan,
    policy: BackupPolicy,
    *,
    detach: bool | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    from ...remote import operations

    if dry_run:
        _print_plan(plan, as_json)
        return
    result = place.do(lambda host: operations.launch(home, host, plan.manifest, plan.attempt, policy=policy))
    if result.notice:
        say(result.notice)
    if detach:
        if as_json:
            print_json({"id": plan.run_id, "dir": str(home.runs / plan.run_id)})
        else:
            print(plan.run_id)
        return
    watch_run(place, plan.run_id, as_json)


def _print_plan(plan: Plan, as_json: bool, guess: Estimate | None = None) -> None:
    """What would be started; of a recipe also what it would take, where anything comparable was measured."""
    if as_json:
        import msgspec

        printed = {"manifest": msgspec.to_builtins(plan.manifest), "equivalent": list(plan.equivalent)}
        print_json(printed if guess is None else {**printed, "estimate": guess.to_json()})
        return
    from .tables import print_plan

    print_plan(plan)
    for line in guess.lines if guess is not None else ():
        print(line)


def watch_run(place: Place, run_id: str, as_json: bool) -> None:
    from .live_line import watch

    runs = catalog(place.far)
    directory = runs.resolve(run_id)
    say(f"{run_id}: Ctrl-C leaves it running; `wavedeck stop {run_id}` ends it.")
    try:
        view = watch(runs, directory, place.tell)
    except KeyboardInterrupt:
        say(f"\n{run_id} goes on: `wavedeck logs -f {run_id}` follows it, `wavedeck stop {run_id}` ends it.")
        raise
    if as_json:
        print_json(view.to_json())
    raise typer.Exit(ExitCode.OK if view.state == "finished" or view.evaluated else ExitCode.RUN_FAILED)


def resume(
    run: RunArgument,
    host: Annotated[
        str | None,
        typer.Option("--host", help="Go on elsewhere: on another host, or `local`.", autocompletion=complete_host),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="With --host: begin at step 0 when no checkpoint is here.")
    ] = False,
    code: Annotated[
        Path | None, typer.Option("--code", help="With --host: the project's directory here, if its copy is nowhere.")
    ] = None,
    detach: DetachOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run from its newest whole checkpoint: in the same directory, or as a new run on another host."""
    from ...engine.catalog import newest_attempt
    from ...engine.state import RunState
    from ...remote import operations

    runs, directory = find(run)
    view = runs.view(directory)
    if view.problem and view.manifest is None:
        raise UsageError(f"{view.id}: {view.problem}")
    if host is not None and host != view.host:
        from .moving import move_run

        move_run(runs.home, view, host, from_scratch=from_scratch, code=code, detach=bool(detach), as_json=as_json)
        return
    if from_scratch or code is not None:
        raise UsageError("--from-scratch and --code are for `resume --host`, on another host than now.")
    last = newest_attempt(directory)
    evaluation = last is not None and last.stage is not None and last.after is None  # of a Wavedeck that kept no state
    if view.state is RunState.FINISHED and not evaluation:
        raise UsageError(f"{view.id} has finished: there is nothing to resume. `wavedeck run` starts a new one.")
    with at(runs.home, view.host) as place:
        result = place.do(lambda host: operations.resume(runs.home, host, directory))
        if result.notice:
            say(result.notice)
        if detach:
            print_json({"id": directory.id, "dir": str(directory.path)}) if as_json else print(directory.id)
            return
        watch_run(place, directory.id, as_json)


def demo(
    headless: Annotated[bool, typer.Option("--headless", help="The same tour as plain output.")] = False,
) -> None:
    """The two-minute tour: make drum rudiments, train on them, watch it on the deck."""
    from .tour import tour

    tour(headless=headless or not (sys.stdin.isatty() and sys.stdout.isatty()))
