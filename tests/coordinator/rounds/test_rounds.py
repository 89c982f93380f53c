import threading
from pathlib import Path

import numpy as np
import pytest

from protocol.problems import Conflict
from services.coordinator.identity.joining import leave
from services.coordinator.rounds.advance import advance
from services.coordinator.rounds.trainings import pause_training, resume_training, stop_training
from services.coordinator.store import queries
from services.coordinator.store.store import open_store

from ..support import Local, Member, members


def test_a_training_waits_for_its_clients(local: Local) -> None:
    one, two = members(2, 2)
    local.join(one)
    assert local.view(one).phase == "idle"
    local.start(clients=2)
    assert (local.view(one).phase, local.view(one).round) == ("joining", None)
    local.join(two)
    view = local.view(two)
    assert (view.phase, view.round, view.selected, view.answered) == ("training", 1, True, False)


def test_one_training_at_a_time(local: Local) -> None:
    training = local.start()
    with pytest.raises(Conflict) as caught:
        local.start()
    assert caught.value.extra == {"training": training}


def test_a_round_averages_what_was_reported(local: Local) -> None:
    one = Member("one", ["x", "y"], {"train": 10})
    two = Member("two", ["y", "z"], {"train": 30})
    local.start(clients=2, dense={"w": {"shape": [2], "init": 0.1}})
    local.join(one, two)
    before, other = local.share(one), local.share(two)
    assert before["entities"][1].tobytes() == other["entities"][0].tobytes()
    local.send(one, 0.5)
    assert local.view(one).answered
    local.send(two, 1.0)
    after, last = local.share(one), local.share(two)
    assert local.view().round == 2
    assert np.allclose(after["entities"] - before["entities"], [[0.5] * 4, [0.75] * 4], atol=1e-6)
    assert np.allclose(last["entities"][1] - other["entities"][1], 1.0, atol=1e-6)
    assert np.allclose(after["dense.w"] - before["dense.w"], (10 * 0.5 + 30 * 1.0) / 40, atol=1e-6)


def test_only_selected_clients_are_drawn_and_count(local: Local) -> None:
    crowd = members(*[3] * 6)
    local.start(clients=6, fraction=0.5, rounds=6)
    local.join(*crowd)
    draws = []
    for number in range(1, 4):
        drawn = local.selected(crowd)
        draws.append({member.name for member in drawn})
        kept = {member.name: local.share(member)["entities"] for member in crowd}
        reported = {entity for member in drawn for entity in member.entities}
        for member in drawn:
            local.send(member, 1.0)
        assert local.view().round == number + 1
        for member in crowd:
            rows = local.share(member)["entities"]
            for entity, row, old in zip(member.entities, rows, kept[member.name], strict=True):
                assert (row.tobytes() == old.tobytes()) == (entity not in reported)
        if local.view().phase == "evaluating":
            for member in crowd:
                local.report(member, 0.1)
    assert [len(draw) for draw in draws] == [3, 3, 3]
    assert len(set(map(frozenset, draws))) > 1


def test_another_training_with_the_same_seed_draws_the_same(local: Local) -> None:
    crowd = members(*[3] * 6)
    local.join(*crowd)
    draws: list[list[list[str]]] = []
    for seed in (5, 5, 6):
        local.start(clients=6, fraction=0.5, rounds=3, evaluate_every=3, seed=seed)
        draws.append([])
        while local.view().phase == "training":
            draws[-1].append([member.name for member in local.selected(crowd)])
            for member in local.selected(crowd):
                local.send(member)
        for member in crowd:
            local.report(member, 0.1)
        assert local.view().phase == "finished"
    assert draws[0] == draws[1] != draws[2]
    assert [len(rounds) for rounds in draws] == [3, 3, 3]


def test_the_deadline_closes_a_round_with_a_quorum(local: Local) -> None:
    crowd = members(1, 1, 1)
    local.start(clients=3, quorum=2)
    local.join(*crowd)
    last = local.share(crowd[2])["entities"]
    local.send(crowd[0])
    local.send(crowd[1])
    local.pass_time(59.9)
    assert local.view().round == 1
    local.pass_time(0.2)
    assert local.view().round == 2
    assert local.share(crowd[2])["entities"].tobytes() == last.tobytes()


def test_below_the_quorum_the_same_round_goes_on_with_further_clients(local: Local) -> None:
    crowd = members(*[1] * 4)
    local.start(clients=4, quorum=2, fraction=0.5)
    local.join(*crowd)
    first = local.selected(crowd)
    local.send(first[0])
    deadline = local.view().deadline
    local.pass_time(60)
    view = local.view(first[0])
    assert (view.round, view.answered) == (1, True)
    assert deadline is not None
    assert view.deadline is not None
    assert view.deadline > deadline
    assert len(local.selected(crowd)) == 4
    local.send(next(member for member in crowd if member not in first))
    local.pass_time(60)
    assert local.view().round == 2


def test_late_joiners_take_part_from_the_next_round_on(local: Local) -> None:
    one, late = Member("one", ["x"]), Member("late", ["x", "new"])
    local.start(clients=1)
    local.join(one)
    local.join(late)
    initial = local.share(late)["entities"]
    assert not local.view(late).selected
    local.send(one, 1.0)
    assert local.view(late).selected
    rows = local.share(late)["entities"]
    assert np.allclose(rows[0], initial[0] + 1.0, atol=1e-6)
    assert rows[1].tobytes() == initial[1].tobytes()


def test_evaluation_every_few_rounds_and_the_best_version_is_served(local: Local) -> None:
    (one,) = members(2)
    local.start(rounds=4, evaluate_every=2)
    local.join(one)
    phases, best = [], b""
    for mrr in (None, None, 0.6, None, None, 0.4):
        view = local.view(one)
        phases.append((view.round, view.phase))
        if view.round == 3:
            best = local.share(one)["entities"].tobytes()
        local.send(one) if mrr is None else local.report(one, mrr)
    assert phases == [
        (1, "training"),
        (2, "training"),
        (3, "evaluating"),
        (3, "training"),
        (4, "training"),
        (5, "evaluating"),
    ]
    view = local.view(one)
    assert (view.phase, view.round, view.best_version, view.best_mrr) == ("finished", 5, 3, 0.6)
    assert (view.selected, view.answered, view.deadline) == (False, False, None)
    assert local.share(one, 3)["entities"].tobytes() == best


def test_patience_ends_a_training(local: Local) -> None:
    (one,) = members(2)
    local.start(rounds=100, evaluate_every=1, patience=2)
    local.join(one)
    for mrr in (0.5, 0.6, 0.6, 0.3):
        local.send(one)
        assert local.view().phase == "evaluating"
        local.report(one, mrr)
    view = local.view()
    assert (view.phase, view.round, view.best_version) == ("finished", 5, 3)


def test_the_mean_mrr_is_weighted_by_triples(local: Local) -> None:
    one = Member("one", ["x"], {"train": 1, "valid": 1})
    two = Member("two", ["y"], {"train": 1, "valid": 3})
    local.start(clients=2, rounds=1)
    local.join(one, two)
    local.send(one)
    local.send(two)
    local.report(one, 0.2)
    local.report(two, 0.6)
    assert local.view().best_mrr == pytest.approx(0.5)


def test_nobody_waits_for_who_holds_no_validation_triples(local: Local) -> None:
    one, none = Member("one", ["x"]), Member("none", ["y"], {"train": 1})
    local.start(clients=2, rounds=1, quorum=2)
    local.join(one, none)
    local.send(one)
    local.send(none)
    assert local.view(none).phase == "evaluating"
    local.report(one, 0.2)
    assert local.view().phase == "finished"


def test_without_any_validation_triples_the_last_version_is_best(local: Local) -> None:
    none = Member("none", ["y"], {"train": 1})
    local.start(rounds=3, evaluate_every=1, patience=1)
    local.join(none)
    for _ in range(3):
        local.send(none)
    view = local.view()
    assert (view.phase, view.best_version, view.best_mrr) == ("finished", 4, None)


def test_an_evaluation_has_a_deadline_and_a_quorum_too(local: Local) -> None:
    one, two = members(1, 1)
    local.start(clients=2, rounds=1)
    local.join(one, two)
    local.send(one)
    local.send(two)
    local.pass_time(60)
    view = local.view()
    assert (view.phase, view.round) == ("evaluating", 2)
    local.report(one, 0.5)
    local.pass_time(60)
    assert local.view().phase == "finished"


def test_round_numbers_grow_over_trainings_and_members_stay(local: Local) -> None:
    (one,) = members(2)
    first = local.start(rounds=2)
    local.join(one)
    local.send(one)
    local.send(one)
    local.report(one, 0.5)
    assert local.view().phase == "finished"
    second = local.start(rounds=1, seed=9)
    view = local.view(one)
    assert (view.training == second, view.round, view.selected, view.best_version) == (True, 4, True, None)
    assert first != second
    local.send(one)
    local.report(one, 0.1)
    assert local.view().best_version == 5
    assert local.share(one, 3)["entities"].shape == (2, 4)


def test_disk_use_stays_bounded(local: Local, tmp_path: Path) -> None:
    (one,) = members(2)
    local.start(rounds=20, evaluate_every=2, patience=9)
    local.join(one)
    for mrr in [0.5, 0.9, 0.1, 0.2]:
        local.send(one)
        local.send(one)
        local.report(one, mrr)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"5.safetensors", "9.safetensors"}
    assert list((tmp_path / "updates").iterdir()) == []


def test_closing_goes_on_after_a_crash_before_the_commit(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = members(2, 2)
    local.start(clients=2)
    local.join(one, two)
    local.send(one)
    kept: list[bytes] = []
    keep = local.store.blobs.keep_model

    def fail(version: int, file: Path) -> None:
        kept.append(file.read_bytes())
        keep(version, file)
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(local.store.blobs, "keep_model", fail)
        with pytest.raises(OSError, match="killed"):
            local.send(two)
    view = local.view(two)
    assert (view.round, view.phase) == (1, "aggregating")
    with pytest.raises(Conflict):
        local.send(one, 9.0, round=1)
    advance(local.store)
    assert local.view().round == 2
    with local.store.blobs.model(2) as file:
        assert file.read_bytes() == kept[0]


def test_two_stores_on_one_folder_close_a_round_once(local: Local, tmp_path: Path) -> None:
    crowd = members(*[20] * 4)
    local.start(clients=4, rounds=50, evaluate_every=50)
    local.join(*crowd)
    other = Local(open_store(tmp_path, clock=local.clock), local.clock)
    for number in range(1, 6):
        bodies = [(local if i % 2 else other, member) for i, member in enumerate(crowd)]
        threads = [threading.Thread(target=side.send, args=(member, None, number)) for side, member in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Whoever led may have looked before the last update came; each looks again every second.
        advance(local.store)
        assert local.view().round == number + 1
    with local.store.database.read() as session:
        training = queries.latest_training(session)
        assert training is not None
        assert training.rounds_done == 5
    other.store.database.close()


def test_a_stopped_training_ends_with_its_best_version(local: Local) -> None:
    (one,) = members(2)
    local.start(clients=2)
    stop_training(local.store)
    assert (local.view().phase, local.view().best_version) == ("finished", None)
    local.join(one)
    local.start()
    local.send(one)
    stop_training(local.store)
    advance(local.store)
    view = local.view()
    assert (view.phase, view.best_version) == ("finished", view.round)
    assert view.round is not None
    assert set(local.share(one, view.round)) == {"entities"}
    with pytest.raises(Conflict):
        stop_training(local.store)
    local.start()
    assert local.view(one).selected


def test_over_selection_closes_with_as_many_as_were_asked_for(local: Local) -> None:
    crowd = members(*[2] * 6)
    local.start(clients=6, fraction=0.5, over_selection=0.5, quorum=2)
    local.join(*crowd)
    drawn = local.selected(crowd)
    assert len(drawn) == 5
    for member in drawn[:2]:
        local.send(member)
    assert local.view().round == 1
    local.send(drawn[2])
    assert local.view().round == 2
    with pytest.raises(Conflict) as caught:
        local.send(drawn[3], round=1)
    assert caught.value.extra == {"current_round": 2}


def test_attempts_without_a_quorum_pause_the_training_and_keep_what_was_accepted(local: Local) -> None:
    crowd = members(2, 2, 2)
    local.start(clients=3, quorum=2, attempts=2)
    local.join(*crowd)
    local.send(crowd[0])
    local.pass_time(60)
    assert local.view().phase == "training"
    local.pass_time(60)
    view = local.view(crowd[1])
    assert (view.phase, view.round, view.selected) == ("paused", 1, False)
    assert view.paused is not None
    assert "below the quorum of 2" in view.paused
    local.pass_time(3600)
    assert local.view().phase == "paused"
    resume_training(local.store)
    view = local.view(crowd[0])
    assert (view.phase, view.round, view.selected, view.answered, view.paused) == ("training", 1, True, True, None)
    local.pass_time(59)
    local.send(crowd[1])
    local.pass_time(1)
    assert local.view().round == 2


def test_a_paused_training_stands_still_and_takes_what_was_trained(local: Local) -> None:
    one, two = members(2, 2)
    local.start(clients=2)
    local.join(one, two)
    pause_training(local.store)
    view = local.view(one)
    assert (view.phase, view.selected, view.paused) == ("paused", False, "by the operator")
    local.send(one)
    local.send(two)
    local.pass_time(3600)
    assert (local.view().round, local.view().phase) == (1, "paused")
    with pytest.raises(Conflict):
        pause_training(local.store)
    resume_training(local.store)
    advance(local.store)
    assert local.view().round == 2
    with pytest.raises(Conflict):
        resume_training(local.store)


def test_who_leaves_is_not_waited_for_and_its_update_still_counts(local: Local) -> None:
    one, two, three = members(1, 1, 1)
    local.start(clients=3, quorum=2)
    local.join(one, two, three)
    before = local.share(two)["entities"]
    local.send(one, 1.0)
    leave(local.store, one.id)
    leave(local.store, three.id)
    advance(local.store)
    assert local.view().round == 1
    local.send(two, 0.5)
    view = local.view(two)
    assert (view.round, view.clients) == (2, 1)
    assert np.allclose(local.share(two)["entities"] - before, 0.5, atol=1e-6)
    # One member is no quorum of two: no round trains it alone.
    assert view.phase == "selecting"
    local.pass_time(60)
    assert local.view().phase == "paused"
    local.join(one)
    resume_training(local.store)
    advance(local.store)
    assert [local.view(member).selected for member in (one, two)] == [True, True]


def test_further_clients_are_drawn_at_once_where_all_that_were_drawn_have_left(local: Local) -> None:
    crowd = members(*[2] * 4)
    local.start(clients=4, fraction=0.25)
    local.join(*crowd)
    (drawn,) = local.selected(crowd)
    leave(local.store, drawn.id)
    advance(local.store)
    (other,) = local.selected(crowd)
    assert other is not drawn
    local.send(other)
    assert local.view().round == 2
