"""Policies: what may stand in them, where they come from, and which of two wins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavedeck.engine.backup.policy import (
    DEFAULT_PATTERNS,
    FIELDS,
    BackupPolicy,
    checked,
    host_policy,
    own_policy,
    policy_from_words,
    policy_words,
    read_policy,
    write_policy,
)
from wavedeck.engine.errors import UsageError
from wavedeck.engine.rundir import Home
from wavedeck.tests.engine.backup.made import far_run
from wavedeck.tests.fakes.runs import make_home, make_run


@pytest.fixture
def at(home: Path) -> Home:
    return make_home(home)


def test_without_any_file_everything_has_a_default(at: Home) -> None:
    policy = read_policy(at, make_run(at))
    assert policy == BackupPolicy() and policy.globs == DEFAULT_PATTERNS
    assert (policy.keep_last, policy.keep_best, policy.failover_after_s, policy.enabled) == (3, 2, 120.0, True)


def test_a_runs_own_policy_wins_over_its_hosts_over_the_default(at: Home) -> None:
    at.backup_settings.write_text(
        '[default]\nkeep_last = 5\nsecond = "/mnt/nas/wd"\n[host.gpu1]\nkeep_last = 7\nlimit_kib_s = 100\n'
    )
    near = make_run(at, "20260921-1427-sousa-calm-otter")
    far = far_run(at)
    assert (read_policy(at, near).keep_last, read_policy(at, near).limit_kib_s) == (5, None)
    theirs = read_policy(at, far)
    assert (theirs.keep_last, theirs.limit_kib_s, theirs.second) == (7, 100, "/mnt/nas/wd")
    write_policy(far, BackupPolicy(keep_last=9))
    assert read_policy(at, far) == BackupPolicy(keep_last=9)  # whole, not field by field: it says all there is to say


@pytest.mark.parametrize(
    "text",
    ["{", '{"keep_last": 0}', '{"keep_last": "many"}', '{"second": "../../etc"}', '{"patterns": ["/etc/*"]}', "[]"],
)
def test_a_policy_from_a_host_that_makes_no_sense_is_passed_over(at: Home, text: str) -> None:
    at.backup_settings.write_text("[default]\nkeep_last = 4\n")
    run = far_run(at)
    run.policy.write_text(text)
    assert read_policy(at, run) == BackupPolicy(keep_last=4)


def test_an_edited_backup_toml_is_seen_at_once(at: Home) -> None:
    at.backup_settings.write_text("[default]\nkeep_last = 4\n")
    assert host_policy(at, "gpu1").keep_last == 4
    at.backup_settings.write_text("[default]\nkeep_last = 11\n")
    assert host_policy(at, "gpu1").keep_last == 11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[default\n", "no TOML"),
        ("[defaults]\n", r"no \[defaults\]"),
        ("[default]\nkep_last = 3\n", "Did you mean keep_last"),
        ("[host.gpu1]\nkeep_last = -1\n", r"\[host.gpu1\] keep_last=-1"),
        ('[host.gpu1]\nkeep_last = "x"\n', r"\[host.gpu1\]"),
        ("host = 3\n", r"\[host.NAME\]"),
        ("[host]\ngpu1 = 3\n", "must be a table"),
        ("[default]\nbudget = nan\n", "budget"),
    ],
)
def test_a_damaged_backup_toml_says_what_to_mend(at: Home, text: str, said: str) -> None:
    at.backup_settings.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_policy(at, far_run(at))


def test_words_make_a_policy_and_a_policy_makes_words() -> None:
    words = ["keep_last=5", "keep-best=0", "every_steps=10_000", "limit_kib_s=2048", "second=nas:/backup/wd",
             "patterns=out/*.pt, **/*.ckpt", "failover=gpu2", "failover_after_s=90.5", "budget=12.5",
             "stop_at_budget=yes", "enabled=off"]  # fmt: skip
    policy = policy_from_words(words)
    assert policy == BackupPolicy(
        enabled=False, keep_last=5, keep_best=0, every_steps=10_000, limit_kib_s=2048, second="nas:/backup/wd",
        patterns=["out/*.pt", "**/*.ckpt"], failover="gpu2", failover_after_s=90.5, budget=12.5, stop_at_budget=True,
    )  # fmt: skip
    assert {word.partition("=")[0] for word in policy_words(policy)} == set(FIELDS)
    assert policy_from_words(policy_words(policy)) == policy
    back = policy_from_words(
        ["limit_kib_s=none", "second=none", "patterns=", "failover=none", "budget=none"], base=policy
    )
    assert (back.limit_kib_s, back.second, back.patterns, back.failover, back.budget) == (None, None, [], None, None)
    assert back.keep_last == 5
    assert policy_words(BackupPolicy()) == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("keep_last", "no FIELD=VALUE"),
        ("keeplast=3", "Did you mean keep_last"),
        ("keep_last=three", "whole number"),
        ("keep_last=1.5", "whole number"),
        ("keep_last=0", "from 1 on"),
        ("keep_best=-1", "from 0 on"),
        ("limit_kib_s=0", "at least 1"),
        ("enabled=perhaps", "true or false"),
        ("budget=0", "more than 0"),
        ("budget=inf", "more than 0"),
        ("failover=local", "name of a host"),
        ("failover=-oProxyCommand=x", "name of a host"),
        ("failover_after_s=1", "from 30 s"),
        ("failover_after_s=nan", "from 30 s"),
        ("second=relative/dir", "directory here"),
        ("second=-host:/x", "directory here"),
        ("second=nas:relative", "directory here"),
        ("second=/mnt/../etc", "directory here"),
        ("second=local:/x", "directory here"),
        ("second=/mnt/a\nb", "directory here"),
        ("patterns=../*.pt", "without `..`"),
        ("patterns=/abs/*.pt", "without `..`"),
    ],
)
def test_a_word_that_makes_no_sense_is_refused_with_a_sentence(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        policy_from_words([word])


@pytest.mark.parametrize(
    ("second", "host", "directory"),
    [(None, None, None), ("/mnt/nas/wd", None, "/mnt/nas/wd"), ("nas", "nas", None), ("nas:/b c", "nas", "/b c")],
)
def test_a_second_place_is_a_directory_a_host_or_both(second: str, host: str | None, directory: str | None) -> None:
    policy = checked(BackupPolicy(second=second))
    assert (policy.second_host, policy.second_directory) == (host, directory)


def test_a_policy_is_written_checked_and_read_again(at: Home) -> None:
    run = make_run(at)
    assert own_policy(run) is None
    write_policy(run, BackupPolicy(keep_best=4, failover="gpu2"))
    assert json.loads(run.policy.read_text()) == {"keep_best": 4, "failover": "gpu2"}
    assert own_policy(run) == BackupPolicy(keep_best=4, failover="gpu2")
    with pytest.raises(UsageError):
        write_policy(run, BackupPolicy(keep_last=0))
