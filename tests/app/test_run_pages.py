"""What `ps`, `show`, `logs` and a dry run say of runs: tags, batches, settings, attempts, and what was cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from wavedeck.app.cli.main import app
from wavedeck.app.cli.tables import print_plan
from wavedeck.engine.catalog import Catalog
from wavedeck.engine.errors import UsageError
from wavedeck.engine.manifest import Attempt, ExitRecord, write_record
from wavedeck.engine.planning import check_recipe, plan_recipe
from wavedeck.engine.recipe import load_recipe
from wavedeck.engine.rundir import Home, RunDir
from wavedeck.tests.fakes.runs import T0, make_home, make_run


def cli(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(app, list(words), catch_exceptions=True)
    if isinstance(done.exception, UsageError):
        assert code == 2, done.exception
        return done
    assert done.exit_code == code, (done.output, done.exception)
    return done


def js(*words: str) -> Any:
    return json.loads(cli(*words, "--json").stdout)


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def test_an_empty_list_says_what_it_is_empty_of(at: Home) -> None:
    assert "no runs yet" in cli("ps", "--active").stderr
    make_run(at, "20260921-1426-sousa-bold-ant")
    assert "the only run is not active" in cli("ps", "--active").stderr
    make_run(at, "20260921-1427-sousa-bold-bee", tags=["night"])
    assert "none of 2 runs is active" in cli("ps", "--active").stderr
    assert "none of 2 runs is tagged night and active" in cli("ps", "--tag", "night", "--active").stderr
    assert "none of 2 runs is tagged day" in cli("ps", "--tag", "day").stderr


def test_the_newest_batch_is_last_for_every_verb(at: Home) -> None:
    assert "there are no batches" in str(cli("ps", "--batch", "last", code=2).exception)
    for minute, batch in ((26, "calm-fox"), (27, "warm-ibis")):
        make_run(
            at, f"20260921-14{minute}-sousa-bold-ant", batch=f"batch-20260921-1420-sousa-{batch}", created=T0 + minute
        )
    newest = ["20260921-1427-sousa-bold-ant"]
    for words in (("--batch", "last"), ("--batch", "warm-ibis")):
        assert [row["id"] for row in js("ps", *words)] == newest
    assert [row["id"] for row in js("compare", "--batch", "last")["runs"]] == newest
    assert "there is no batch 'calm-ibis'" in str(cli("ps", "--batch", "calm-ibis", code=2).exception)


def test_a_tag_leads_to_its_runs(at: Home) -> None:
    ids = [f"20260921-142{number}-sousa-bold-{animal}" for number, animal in enumerate(("ant", "bee", "cat"))]
    for number, tags in enumerate((["night", "lora"], ["night"], [])):
        make_run(at, ids[number], tags=tags, created=T0 + number, overrides=["model=ast", "training.lr=0.01"])
    assert [row["id"] for row in js("ps", "--tag", "night")] == ids[:2]
    assert [row["id"] for row in js("ps", "--tag", "night", "--tag", "lora")] == ids[:1]
    shown = js("show", "lora")
    assert (shown["id"], shown["tags"], shown["overrides"]) == (
        ids[0],
        ["night", "lora"],
        ["model=ast", "training.lr=0.01"],
    )
    assert shown["config"]["training"]["lr"] == 0.001 and "config" not in js("ps")[0]
    assert "night lora" in cli("show", "lora").stdout
    refused = str(cli("show", "night", code=2).exception)
    assert "'night' is the tag of 2 runs" in refused and "ps --tag night" in refused
    assert "there is no run 'nigth'" in str(cli("show", "nigth", code=2).exception)


def test_the_list_says_what_was_chosen_and_where_a_run_broke_off(at: Home) -> None:
    run = make_run(at, state="failed", overrides=["model=ast", "training.lr=0.01", "strategy=lora"])
    make_run(at, "20260921-1427-sousa-bold-bee", created=T0 + 1, overrides=["training.lr=0.01"])
    counted = {"k": "progress", "done": 32, "total": 32, "unit": "clip", "description": "check the sounds"}
    run.events.write_text(json.dumps({"t": T0 + 1, **counted}) + "\n")
    _, failed, other = cli("ps").stdout.splitlines()
    assert "  model=ast strategy=lora  check the sounds 32/32 clip  " in failed
    assert other.split()[2:4] == ["20260921-1427-sousa-bold-bee", "sousa"]
    make_run(at, "20260921-1428-python-bold-cat", created=T0 + 2, recipe=None)
    assert "  sousa model=ast strategy=lora  " in cli("ps").stdout


# --- attempts


def attempts(run: RunDir, *ends: float, evaluates: int | None = None) -> None:
    """A run whose attempts began 100 s after each other, with a row ten seconds in and a last sign at `ends`."""
    lines: list[dict[str, Any]] = []
    for number, end in enumerate(ends, 1):
        began = T0 + 100 * number
        after = "finished" if number == evaluates else None
        write_record(run.attempt(number), Attempt(number, began - 1, ["true"], "/", after=after))
        lines.append({"t": began, "k": "start", "attempt": number})
        if after is None:
            lines.append({"t": began + 10, "k": "metrics", "step": number, "v": {"val/loss": 1.0 / number}})
        lines.append({"t": end, "k": "end", "reason": "finished", "attempt": number})
    run.events.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_record(run.exit, ExitRecord(len(ends), ends[-1], started=T0 + 100 * len(ends), pid=7, exit_code=0))


def test_several_attempts_are_told_as_one_training(at: Home) -> None:
    run = make_run(at)
    attempts(run, T0 + 130, T0 + 240, T0 + 360)
    shown = js("show", "last")
    assert (shown["attempt"], shown["first_started"], shown["started"], shown["ended"]) == (
        3,
        T0 + 99,
        T0 + 300,
        T0 + 360,
    )
    assert shown["ran_s"] == pytest.approx(30 + 40 + 60) and shown["evaluated_at"] is None
    words = cli("show", "last").stdout
    assert "attempt    3" in words and "ran for    2m 10s in all attempts" in words, words
    assert "again at" not in words


def test_an_evaluation_leaves_the_training_its_times(at: Home) -> None:
    run = make_run(at)
    attempts(run, T0 + 130, T0 + 240, T0 + 360, evaluates=3)
    view = Catalog(at, lambda *_: False).view(run)
    assert (view.started, view.ended, view.evaluated_at) == (T0 + 200, T0 + 240, T0 + 360)
    assert "again at" in cli("show", "last").stdout
    again = Catalog(at, lambda *_: False)
    again.view(run)
    again.save_cache()
    assert Catalog(at, lambda *_: False).view(run).ended == T0 + 240, "and the cache keeps it"


# --- the console


@pytest.mark.parametrize(("raw", "lines"), [(False, 50), (True, 50), (False, 3)])
def test_logs_say_what_they_leave_out(at: Home, raw: bool, lines: int) -> None:
    make_run(at).console.write_text("".join(f"line {number}\n" for number in range(1, 64)))
    done = cli("logs", "last", "-n", str(lines), *(["--raw"] if raw else []))
    assert f"{63 - lines} earlier lines: --lines 63" in done.stderr
    assert done.stdout.splitlines()[0] == f"line {64 - lines}"


@pytest.mark.parametrize("lines", ["0", "63", "64"])
def test_logs_that_are_whole_say_nothing(at: Home, lines: str) -> None:
    make_run(at).console.write_text("".join(f"line {number}\n" for number in range(1, 64)))
    assert cli("logs", "last", "-n", lines).stderr == ""


# --- a dry run


def test_a_dry_run_speaks_as_run_does_and_lists_what_differs_first(
    at: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    wish = check_recipe(load_recipe("sousa"), ["preset=debug", "training.lr=2e-4"])
    print_plan(plan_recipe(at, wish))
    lines = capsys.readouterr().out.splitlines()
    fields = [line.split() for line in lines[next(n for n, line in enumerate(lines) if line.startswith("FIELD")) + 1 :]]
    marked = [words[0] for words in fields if words[1] == "◂"]
    assert "training.lr" in marked and [words[0] for words in fields[: len(marked)]] == marked
    (lr,) = [words for words in fields if words[0] == "training.lr"]
    assert lr[2] == "0.0002" and len(lr) == 4
    said = {words[-1] if words[1] != "◂" else words[2] for words in fields}
    assert not said & {"None", "True", "False"} and {"null", "true", "false"} & said
