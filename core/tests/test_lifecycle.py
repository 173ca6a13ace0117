"""The lifecycle, held against the table of DESIGN.md §3, which is written out here once more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oq.lifecycle import TABLE, Move, allowed, as_mermaid, moves_from, targets
from oq.task import Status

EVERYTHING_ALLOWED = {
    ("pending", "claim", "running"),
    ("pending", "fail", "failed"),
    ("pending", "cancel", "cancelled"),
    ("running", "succeed", "completed"),
    ("running", "fail", "failed"),
    ("running", "retry", "pending"),
    ("running", "release", "pending"),
    ("running", "lose", "pending"),
    ("running", "lose", "failed"),
    ("running", "cancel", "cancelled"),
    ("failed", "requeue", "pending"),
    ("cancelled", "requeue", "pending"),
}
"""(from, move, to), as users are told."""

statuses = st.sampled_from(Status)
moves = st.sampled_from(Move)


@given(statuses, moves)
def test_a_move_is_allowed_exactly_where_the_design_has_it(status, move):
    designed = {end for start, name, end in EVERYTHING_ALLOWED if (start, name) == (status, move)}
    assert set(targets(status, move)) == designed
    assert allowed(status, move) == bool(designed)
    assert (move in moves_from(status)) == bool(designed)


def test_no_move_is_missing_from_the_design_and_none_is_added():
    assert {(start, move, end) for (start, move), ends in TABLE.items() for end in ends} == EVERYTHING_ALLOWED


def test_every_move_of_the_table_leads_somewhere():
    assert all(TABLE.values())


@pytest.mark.parametrize(
    ("status", "left_by"), [(Status.COMPLETED, set()), (Status.FAILED, {"requeue"}), (Status.CANCELLED, {"requeue"})]
)
def test_a_final_task_can_be_requeued_at_most_and_a_completed_one_not_even_that(status, left_by):
    assert status.final
    assert set(moves_from(status)) == left_by


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
def test_a_task_that_is_not_final_can_be_cancelled(status):
    assert not status.final
    assert targets(status, Move.CANCEL) == {Status.CANCELLED}


def test_only_a_requeue_leads_from_a_final_status_back_to_work():
    back = {move for (start, move), ends in TABLE.items() if start.final for end in ends if not end.final}
    assert back == {Move.REQUEUE}


def test_every_status_can_be_reached_by_a_submitted_task():
    reached, edge = {Status.PENDING}, {Status.PENDING}
    while edge:
        edge = {end for status in edge for move in moves_from(status) for end in targets(status, move)} - reached
        reached |= edge
    assert reached == set(Status)


@given(statuses)
def test_a_final_status_can_be_reached_from_every_status_that_is_not_final(status):
    reached, edge = {status}, {status}
    while edge:
        edge = {end for at in edge for move in moves_from(at) for end in targets(at, move)} - reached
        reached |= edge
    assert any(end.final for end in reached)


def test_every_move_is_used():
    assert {move for _, move in TABLE} == set(Move)


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TABLE[Status.COMPLETED, Move.REQUEUE] = frozenset({Status.PENDING})  # type: ignore[index]


def test_the_diagram_has_an_arrow_for_each_move_and_no_other():
    lines = [line.strip() for line in as_mermaid().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    assert sorted(lines[1:]) == sorted(
        [f"{start} --> {end}: {move}" for start, move, end in EVERYTHING_ALLOWED]
        + ["[*] --> pending: submit", "completed --> [*]", "failed --> [*]", "cancelled --> [*]"]
    )
