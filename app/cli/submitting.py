"""The verb that rents a machine for one training: `submit`, for Hugging Face Jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...engine.clouds import DEFAULT_FLAVOR
from ...engine.errors import ExitCode, UsageError, WavedeckError
from ...engine.rundir import Home
from .common import JsonOption, OverridesArgument, PresetOption, RecipeArgument, catalog, print_json, say
from .launching import DryRunOption, NameOption

if TYPE_CHECKING:
    from ...engine.planning import Wish
    from ...remote.hf_jobs import JobPlan, Rented

_SEVERAL = "Lists of values (`model=ast,beats`) and experiments: one job for each combination."


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(submit)


def _complete_flavor(incomplete: str) -> list[str]:
    from ...engine.clouds import FLAVORS

    return [name for name in FLAVORS if name.startswith(incomplete)]


FlavorOption = Annotated[
    str | None,
    typer.Option(
        "--flavor",
        help=f"The machine; by default the one that platform=hf_jobs_… means, or {DEFAULT_FLAVOR}.",
        autocompletion=_complete_flavor,
    ),
]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="When the job is cut off: 90m, 8h.")]
RepoOption = Annotated[
    str, typer.Option("--repo", metavar="[OWNER/]NAME", help="Where checkpoints and metrics are kept (private).")
]
VolumeOption = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="SOURCE:/PATH", help="A data set to mount: hf://datasets/OWNER/NAME:/mnt/set."),
]
NamespaceOption = Annotated[str | None, typer.Option("--namespace", help="The organisation that pays.")]
PriceOption = Annotated[
    float | None, typer.Option("--price", min=0.0, help="US dollars an hour, instead of the list's.")
]


def submit(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    flavor: FlavorOption = None,
    timeout: TimeoutOption = "8h",
    repo: RepoOption = "wavedeck-runs",
    volume: VolumeOption = None,
    namespace: NamespaceOption = None,
    price: PriceOption = None,
    preset: PresetOption = None,
    name: NameOption = None,
    multirun: Annotated[bool, typer.Option("--multirun", "-m", help=_SEVERAL)] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money is spent.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on a rented machine of Hugging Face Jobs; the same command again goes on where the job was cut off."""
    from ...remote.hf_jobs import check_login, find_hf, write_files

    wishes = _wishes(recipe, overrides or [], preset, name, multirun)
    plans = _plans(wishes, flavor, timeout, repo, tuple(volume or ()), namespace, price)
    if dry_run:
        write_files(plans[0].directory)
        _show(plans, as_json)
        return
    find_hf()
    check_login()
    waiting, running = _apart(plans)
    _narrate(waiting)
    if not yes:
        _ask(len(waiting))
    write_files(waiting[0].directory)
    _send(waiting, running, as_json)


def _apart(plans: list[JobPlan]) -> tuple[list[JobPlan], list[tuple[JobPlan, str]]]:
    """What is to be submitted, and what was and still runs, with its job.

    Raises
    ------
    WavedeckError: all of it runs already.
    """
    from ...remote.hf_jobs import running_job

    found = [(plan, running_job(plan)) for plan in plans]
    waiting = [plan for plan, job in found if job is None]
    running = [(plan, job) for plan, job in found if job is not None]
    told = [
        f"{plan.name} runs already: `hf jobs logs -f {job}` follows it, `hf jobs cancel {job}` ends it."
        for plan, job in running
    ]
    if not waiting:
        raise WavedeckError(f"nothing is submitted, it would be paid twice. {' '.join(told)}")
    for line in told:
        say(line)
    return waiting, running


def _send(plans: list[JobPlan], running: list[tuple[JobPlan, str]], as_json: bool) -> None:
    """Submit one after another and say each id as it comes: a later one may be refused when the first are paid.

    Raises
    ------
    WavedeckError: one was refused; the sentence names those that were submitted.
    """
    from ...engine.estimate import total
    from ...remote.hf_jobs import remember
    from ...remote.hf_jobs import submit as send

    jobs: dict[str, str] = {}
    try:
        for plan in plans:
            job = jobs[plan.name] = send(plan)
            say(f"{plan.name} is submitted: `hf jobs logs -f {job}` follows it, `hf jobs cancel {job}` ends it.")
            remember(plan, job)
            if not as_json:
                print(job, flush=True)
    except WavedeckError as error:
        if not jobs:
            raise
        sent = ", ".join(f"{name} as job {job}" for name, job in jobs.items())
        raise WavedeckError(
            f"{error} Submitted by then: {sent}. The same command again leaves out those that run."
        ) from error
    finally:
        if as_json:
            known = [{**plan.to_json(), "job": job, "submitted": False} for plan, job in running]
            sent_now = [
                {**plan.to_json(), "job": jobs.get(plan.name), "submitted": plan.name in jobs} for plan in plans
            ]
            print_json({"jobs": known + sent_now, "estimate": total([plan.estimate for plan in plans]).to_json()})


def _wishes(recipe: str, overrides: list[str], preset: str | None, name: str | None, multirun: bool) -> list[Wish]:
    from ...engine.config.sweep import expand, read_line
    from ...engine.planning import check_recipe
    from ...engine.recipe import load_recipe

    base, _, stage = recipe.partition(".")
    loaded = load_recipe(base)
    line = read_line(loaded, overrides, preset)
    if line.several and not multirun and line.experiment is None:
        raise UsageError("that names several trainings: add -m to submit one job for each of them.")
    if not line.several:
        return [check_recipe(loaded, line.overrides, stage=stage or None, preset=preset, name=name, here=False)]
    return [
        check_recipe(loaded, one.overrides, stage=stage or None, preset=preset, name=name, here=False)
        for one in expand(loaded, line.overrides)
    ]


def _plans(
    wishes: list[Wish], flavor: str | None, timeout: str, repo: str, volumes: tuple[str, ...],
    namespace: str | None, price: float | None,
) -> list[JobPlan]:  # fmt: skip
    from ...engine.estimate import estimate_from, machine_of_flavor
    from ...remote.hf_jobs import Rented, plan_job

    home, views = Home.default(), catalog().views()
    plans: dict[str, JobPlan] = {}
    for wish in wishes:
        chosen = _flavor(wish, flavor)
        rented: Rented = Rented(chosen, timeout, repo, volumes, namespace)
        found = estimate_from(views, wish, machine_of_flavor(chosen, price))
        plan = plan_job(home, wish, rented, found)
        plans[plan.name] = plan  # the same training named twice is paid once
    return list(plans.values())


def _flavor(wish: Wish, named: str | None) -> Any:
    from ...engine.clouds import find_flavor, flavor_of_platform

    if named:
        return find_flavor(named)
    chosen = [word.removeprefix("platform=") for word in wish.composed.overrides if word.startswith("platform=")]
    return flavor_of_platform(chosen[-1] if chosen else None) or find_flavor(DEFAULT_FLAVOR)


def _show(plans: list[JobPlan], as_json: bool) -> None:
    """What `--dry-run` prints: each exact command, and the script once; the files are there, so each may be typed."""
    from ...engine.estimate import total
    from ...remote.hf_jobs import SCRIPT

    script = SCRIPT.read_text()
    if as_json:
        whole = total([plan.estimate for plan in plans])
        print_json({"jobs": [plan.to_json() for plan in plans], "estimate": whole.to_json(), "script": script})
        return
    for plan in plans:
        print(f"# {plan.name}\n{plan.command_line}\n")
    print(f"# {SCRIPT.name}\n{script}", end="")
    _narrate(plans)
    say("nothing was started: without --dry-run this is submitted.")


def _narrate(plans: list[JobPlan]) -> None:
    from ...engine.estimate import total
    from ...engine.format import money
    from ...remote.hf_jobs import price_words

    for plan in plans:
        say(f"{plan.name}: {plan.estimate.line}; {price_words(plan)}.")
        for notice in plan.notices:
            say(f"  {notice}")
    for basis in dict.fromkeys(plan.estimate.basis for plan in plans):
        say(f"basis: {basis}")
    for words in dict.fromkeys(plan.estimate.price_words for plan in plans):
        say(f"price: {words}")
    if len(plans) > 1:
        say(
            f"all {len(plans)}: {total([p.estimate for p in plans]).line}; at most {money(sum(p.most for p in plans))}."
        )


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError("this spends money: add --yes to submit without being asked.")
    what = "this job" if count == 1 else f"these {count} jobs"
    if not typer.confirm(f"Submit {what}?", default=False, err=True):
        say("nothing was submitted.")
        raise typer.Exit(ExitCode.FAILED)
