import pytest

from protocol.problems import NotFound
from services.coordinator.rounds.evaluations import accept_evaluation
from services.coordinator.rounds.history import rounds_history

from ..support import Local, evaluation, members


def test_history_from_the_newest_to_the_oldest(local: Local) -> None:
    one, two = members(2, 2)
    first = local.start(clients=2, rounds=2)
    local.join(one, two)
    for _ in range(2):
        local.send(one)
        local.send(two)
    local.report(one, 0.2)
    local.report(two, 0.4)
    accept_evaluation(local.store, one.id, one.id, 3, evaluation(0.9, 2, mode="fusion", split="test"))
    second = local.start(clients=2)
    page = rounds_history(local.store, None, None, 3)
    assert [each.training for each in page.trainings] == [second, first]
    assert [each.phase for each in page.trainings] == ["training", "finished"]
    assert [each.round for each in page.rounds] == [4, 3, 2]
    assert page.next_before == 2
    rest = rounds_history(local.store, None, page.next_before, 3)
    assert ([each.round for each in rest.rounds], rest.next_before) == ([1], None)


def test_rounds_of_one_training_with_their_means(local: Local) -> None:
    one, two = members(2, 2)
    training = local.start(clients=2, rounds=1)
    local.join(one, two)
    local.send(one)
    local.send(two)
    local.report(one, 0.2)
    local.report(two, 0.4)
    last, first = rounds_history(local.store, training, None, 10).rounds
    assert (first.phase, first.selected, first.updates, first.loss) == ("finished", 2, 2, 0.5)
    assert first.closed is not None
    assert (last.phase, last.updates, last.loss) == ("finished", 0, None)
    (mean,) = last.evaluations
    assert (mean.mode, mean.clients, mean.triples) == ("federation", 2, 4)
    assert mean.sides["both"].mrr == pytest.approx(0.3)


def test_an_unknown_training(local: Local) -> None:
    with pytest.raises(NotFound):
        rounds_history(local.store, "none", None, 10)
