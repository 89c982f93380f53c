import pytest

from protocol.problems import Conflict, Forbidden, InvalidRequest
from services.coordinator.rounds.evaluations import accept_evaluation

from ..support import Local, Member, evaluation, members


def evaluating(local: Local) -> list[Member]:
    crowd = members(2, 2)
    local.start(clients=2, evaluate_every=1, rounds=1)
    local.join(*crowd)
    for member in crowd:
        local.send(member)
    assert local.view().phase == "evaluating"
    return crowd


def test_the_same_metrics_get_the_same_receipt_and_others_are_refused(local: Local) -> None:
    one, _ = evaluating(local)
    first = accept_evaluation(local.store, one.id, one.id, 2, evaluation(0.5))
    assert first[1]
    assert accept_evaluation(local.store, one.id, one.id, 2, evaluation(0.5)) == (first[0], False)
    with pytest.raises(Conflict) as caught:
        accept_evaluation(local.store, one.id, one.id, 2, evaluation(0.6))
    assert caught.value.extra == {"current_round": 2}


def test_a_version_that_is_not_evaluated_takes_none(local: Local) -> None:
    one, two = members(2, 2)
    local.start(clients=2)
    local.join(one, two)
    for number in (1, 2):
        with pytest.raises(Conflict) as caught:
            accept_evaluation(local.store, one.id, one.id, number, evaluation(0.5))
        assert caught.value.extra == {"current_round": 1}


def test_who_joined_during_the_evaluation_takes_no_part(local: Local) -> None:
    evaluating(local)
    late = Member("late", ["e0"])
    local.join(late)
    with pytest.raises(Forbidden):
        accept_evaluation(local.store, late.id, late.id, 2, evaluation(0.5))


def test_the_best_version_takes_every_mode_after_the_end(local: Local) -> None:
    one, two = evaluating(local)
    local.report(one, 0.5)
    local.report(two, 0.7)
    view = local.view()
    assert (view.phase, view.best_version) == ("finished", 2)
    for mode in ("isolation", "federation", "fusion", "collection"):
        assert accept_evaluation(local.store, one.id, one.id, 2, evaluation(0.4, mode=mode, split="test"))[1]
    with pytest.raises(Conflict):
        accept_evaluation(local.store, one.id, one.id, 1, evaluation(0.4, mode="fusion", split="test"))
    assert local.view().best_mrr == pytest.approx(0.6)


def test_metrics_weigh_no_more_than_the_triples_that_a_client_joined_with(local: Local) -> None:
    one, _ = evaluating(local)
    with pytest.raises(InvalidRequest) as caught:
        accept_evaluation(local.store, one.id, one.id, 2, evaluation(1.0, 1 << 40))
    assert caught.value.errors[0].field == "triples"
    assert accept_evaluation(local.store, one.id, one.id, 2, evaluation(1.0, 2))[1]


def test_metrics_must_hold_the_side_that_chooses_versions(local: Local) -> None:
    one, two = members(2, 2)
    local.start(clients=2, evaluate_every=1, rounds=1, local={"sides": "tail"})
    local.join(one, two)
    for member in (one, two):
        local.send(member)
    with pytest.raises(InvalidRequest, match="sides: `tail` is missing; this training chooses its versions by it"):
        accept_evaluation(local.store, one.id, one.id, 2, evaluation(0.5))
    both = evaluation(0.5).sides["both"]
    tails = evaluation(0.5).model_copy(update={"sides": {"both": both, "tail": both}})
    assert accept_evaluation(local.store, one.id, one.id, 2, tails)[1]
