"""What a host sends of a run's records, and what is taken of it here, are the same list."""

from __future__ import annotations

from wavedeck.engine.evaluation import EVALUATION_FILE, MOST_BYTES
from wavedeck.remote.mirror_files import RECORDS, is_record
from wavedeck.remote.payload import agent_run


def test_both_ends_know_the_same_records() -> None:
    assert {*agent_run.RECORDS, agent_run.EXIT} == RECORDS
    assert is_record(EVALUATION_FILE) and agent_run.MAX_RECORD >= MOST_BYTES
