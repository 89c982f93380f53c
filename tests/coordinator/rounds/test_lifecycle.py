import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.rounds.lifecycle import (
    Facts,
    Standing,
    Step,
    after_evaluation,
    draw_size,
    goal_size,
    is_due,
    is_finished,
    next_step,
    select,
)

from ..support import settings

CROWD = [f"c{i}" for i in range(30)]


@pytest.mark.parametrize(
    ("clients", "fraction", "quorum", "size"),
    [(30, 0.1, 1, 3), (31, 0.1, 1, 4), (10, 1.0, 1, 10), (10, 0.2, 5, 5), (2, 0.5, 5, 2), (1, 0.01, 1, 1)],
)
def test_a_round_asks_a_fraction_of_the_clients(clients: int, fraction: float, quorum: int, size: int) -> None:
    fixed = settings(clients=10, fraction=fraction, quorum=quorum)
    assert goal_size(clients, fixed) == draw_size(clients, fixed) == size


@pytest.mark.parametrize(("clients", "over", "size"), [(30, 0.5, 5), (30, 0.3, 4), (30, 0.0, 3), (4, 4.0, 4)])
def test_over_selection_draws_more_than_it_asks_for(clients: int, over: float, size: int) -> None:
    fixed = settings(clients=10, fraction=0.1, over_selection=over)
    assert draw_size(clients, fixed) == size
    assert goal_size(clients, fixed) == (3 if clients == 30 else 1)


def test_draws_depend_on_seed_round_and_attempt_only() -> None:
    first = select(CROWD, 5, seed=1, round=2, attempt=1)
    assert first == select(reversed(CROWD), 5, seed=1, round=2, attempt=1)
    assert first == sorted(first)
    others = [select(CROWD, 5, seed=s, round=r, attempt=a) for s, r, a in [(2, 2, 1), (1, 3, 1), (1, 2, 2)]]
    assert first not in others


def test_draws_are_even() -> None:
    counts = dict.fromkeys(CROWD, 0)
    for round in range(2_000):
        for client in select(CROWD, 3, seed=0, round=round, attempt=1):
            counts[client] += 1
    assert all(140 < count < 260 for count in counts.values())


@given(st.sets(st.sampled_from(CROWD)), st.integers(0, 40))
def test_draws_are_distinct_candidates(candidates: set[str], size: int) -> None:
    drawn = select(candidates, size, seed=0, round=1, attempt=1)
    assert len(set(drawn)) == len(drawn) == min(size, len(candidates))
    assert set(drawn) <= candidates


FIXED = settings(clients=3, quorum=2, attempts=3)
STEPS = [
    (Facts("joining", able=2), None),
    (Facts("joining", able=3), Step.OPEN),
    (Facts("selecting", able=2, deadline=10, now=10), Step.SELECT),
    (Facts("selecting", able=1, deadline=10, now=9), None),
    (Facts("selecting", able=1, deadline=10, now=10), Step.PAUSE),
    (Facts("training", able=3, waiting=1, answers=2, goal=3, deadline=10, now=9), None),
    (Facts("training", able=3, waiting=0, answers=3, goal=3), Step.FREEZE),
    # Over-selected: the goal is reached, whoever has not answered is not waited for.
    (Facts("training", able=5, waiting=2, answers=3, goal=3), Step.FREEZE),
    # Everybody who is still there has answered, and they are a quorum.
    (Facts("training", able=2, waiting=0, answers=2, goal=3), Step.FREEZE),
    # They are not: further clients are drawn at once; without any, the deadline decides.
    (Facts("training", able=4, undrawn=1, waiting=0, answers=1, goal=3), Step.DRAW),
    (Facts("training", able=1, undrawn=0, waiting=0, answers=1, goal=3, deadline=10, now=9), None),
    (Facts("training", able=1, undrawn=0, waiting=0, answers=1, goal=3, deadline=10, now=10), Step.RENEW),
    (Facts("training", able=3, waiting=1, answers=2, goal=3, deadline=10, now=10), Step.FREEZE),
    (Facts("training", able=3, waiting=2, answers=1, goal=3, deadline=10, now=10, attempt=2), Step.RENEW),
    (Facts("training", able=3, waiting=2, answers=1, goal=3, deadline=10, now=10, attempt=3), Step.PAUSE),
    (Facts("aggregating", able=0), Step.AGGREGATE),
    (Facts("evaluating", able=3, waiting=0, answers=0), Step.SETTLE),
    (Facts("evaluating", able=3, waiting=1, answers=2, deadline=10, now=9), None),
    (Facts("evaluating", able=3, waiting=1, answers=2, deadline=10, now=10), Step.SETTLE),
    (Facts("evaluating", able=3, waiting=1, answers=0, deadline=10, now=10), Step.RENEW),
    (Facts("evaluating", able=3, waiting=1, answers=0, deadline=10, now=10, attempt=3), Step.PAUSE),
]


@pytest.mark.parametrize(("facts", "step"), STEPS)
def test_what_a_training_needs_next(facts: Facts, step: Step | None) -> None:
    assert next_step(facts, FIXED) is step


def test_versions_are_due_every_few_rounds_and_at_the_end() -> None:
    fixed = settings(evaluate_every=3, rounds=7)
    assert [done for done in range(1, 8) if is_due(done, fixed)] == [3, 6, 7]


def test_only_a_better_mrr_is_better() -> None:
    standing = after_evaluation(Standing(), 3, 0.5)
    assert standing == Standing(3, 0.5, 0)
    standing = after_evaluation(after_evaluation(standing, 5, 0.5), 7, 0.4)
    assert standing == Standing(3, 0.5, 2)
    assert is_finished(standing, 4, settings(patience=2, rounds=9))
    assert not is_finished(standing, 4, settings(patience=3, rounds=9))
    assert is_finished(standing, 9, settings(patience=3, rounds=9))
    assert after_evaluation(standing, 9, 0.6) == Standing(9, 0.6, 0)


def test_without_validation_triples_the_latest_version_is_best() -> None:
    assert after_evaluation(Standing(3, None, 0), 5, None) == Standing(5, None, 0)


def test_an_evaluation_that_nobody_answers_leaves_the_best_version_as_it_is() -> None:
    assert after_evaluation(Standing(10, 0.5, 1), 15, None) == Standing(10, 0.5, 2)
