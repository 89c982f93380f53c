import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.lifecycle import (
    Decision,
    Standing,
    after_evaluation,
    close_decision,
    draw_size,
    is_due,
    is_finished,
    select,
)

from .support import settings

CROWD = [f"c{i}" for i in range(30)]


@pytest.mark.parametrize(
    ("clients", "fraction", "quorum", "size"),
    [(30, 0.1, 1, 3), (31, 0.1, 1, 4), (10, 1.0, 1, 10), (10, 0.2, 5, 5), (2, 0.5, 5, 2), (1, 0.01, 1, 1)],
)
def test_draw_size(clients: int, fraction: float, quorum: int, size: int) -> None:
    assert draw_size(clients, settings(clients=10, fraction=fraction, quorum=quorum)) == size


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


@pytest.mark.parametrize(
    ("expected", "answered", "now", "decision"),
    [
        ("abc", "ab", 9.9, Decision.WAIT),
        ("abc", "abc", 0.0, Decision.CLOSE),
        ("abc", "ab", 10.0, Decision.CLOSE),
        ("abc", "a", 10.0, Decision.RENEW),
        ("a", "", 10.0, Decision.RENEW),
        ("a", "a", 10.0, Decision.CLOSE),
        ("", "", 0.0, Decision.CLOSE),
    ],
)
def test_close_decision(expected: str, answered: str, now: float, decision: Decision) -> None:
    assert close_decision(list(expected), list(answered), quorum=2, deadline=10.0, now=now) is decision


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
