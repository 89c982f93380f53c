import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from protocol.problems import InvalidRequest
from protocol.trainings import InteractionName, Share, TrainingSettings
from trainer.checkpoints import HomeUnusable
from trainer.clients.coordinator import Coordinator
from trainer.clients.service import Service
from trainer.federation import InteractionFor, Participant
from trainer.graph import Graph, write_folder
from trainer.home import Home
from trainer.interactions import interaction_of
from trainer.membership import join, opaque_order, sign
from trainer.results import ClientResult
from trainer.sharing import NotShared, TextsConsent

from .stand_in import INVITATION, TRAINING, StandIn, coordinator, once
from .support import Reply, small_settings

KEY = b"a key that the clients share"
ROOT = Path(__file__).parents[2]
ROUNDS = 4


def settings_of(name: InteractionName, **changes: object) -> TrainingSettings:
    local = {"dropout": 0.3 if name != "transe" else 0.0, "local_epochs": 3, "batch_size": 16, "learning_rate": 0.02}
    local |= dict(changes.pop("local", {}))  # type: ignore[call-overload]
    return small_settings(name, dim=8, rounds=ROUNDS, evaluate_every=2, patience=9, local=local, **changes)


@dataclass
class Run:
    """A client of these tests, which can be started again and again."""

    folder: Path
    graph: Graph
    share: Share = "entities"
    consent: TextsConsent = "none"
    fuse: bool = True
    said: list[str] = field(default_factory=list)
    doing: Callable[[str], None] = lambda text: None
    made: InteractionFor = lambda settings: interaction_of(settings.interaction)

    def start(self, stand_in: StandIn) -> list[ClientResult]:
        home, graph = Home(self.folder), opaque_order(self.graph, KEY)
        with Service("coordinator", stand_in.server.url, None, self.said.append, give_up_after=30) as service:
            calls = Coordinator(service)
            sign(calls, home)
            who = join(calls, home, graph, "clinic", KEY, INVITATION, self.share)
            reports = self.said.append, lambda text: self.doing(text)
            agreed = self.share, self.consent
            return Participant(who, "clinic", graph, calls, home, self.made, *reports, *agreed, self.fuse).run()

    def until_it_ends(self, stand_in: StandIn) -> tuple[list[ClientResult], int]:
        """Start it again whenever it is interrupted; its rows, and how often that was."""
        interrupted = 0
        while True:
            try:
                return self.start(stand_in), interrupted
            except KeyboardInterrupt:
                interrupted += 1


def interrupt(*which: int) -> Callable[[str], None]:
    """Ctrl-C at the beginning of the given local epochs, counted over everything that is done."""
    count = 0

    def now(text: str) -> None:
        nonlocal count
        count += text.startswith("round ")
        if text.startswith("round ") and count in which:
            raise KeyboardInterrupt

    return now


@pytest.mark.parametrize(
    ("name", "share"), [("transe", "entities"), ("distmult", "relations"), ("mlp", "both"), ("mlp", "entities")]
)
def test_interrupted_in_mid_epoch_it_sends_the_same_updates(
    tmp_path: Path, small: Graph, name: InteractionName, share: Share
) -> None:
    settings = settings_of(name, share=share)
    with coordinator(settings) as stand_in:
        undisturbed = Run(tmp_path / "a", small, share).start(stand_in)
        expected = stand_in.updates
    with coordinator(settings) as stand_in:
        run = Run(tmp_path / "b", small, share, doing=interrupt(1, 3, 6, 8, 9, 10, 13))
        results, interrupted = run.until_it_ends(stand_in)
        assert stand_in.updates == expected
    assert interrupted == 7
    assert sorted(expected) == [1, 2, 3, 4]
    assert results == undisturbed


def test_a_seed_repeats_a_training_whatever_ran_before_it_at_the_coordinator(tmp_path: Path, small: Graph) -> None:
    updates = []
    for first in (1, 12):
        with coordinator(settings_of("transe")) as stand_in:
            stand_in.first = stand_in.round = first
            Run(tmp_path / str(first), small).start(stand_in)
            updates.append(list(stand_in.updates.values()))
    assert updates[0] == updates[1]
    assert len(updates[0]) == ROUNDS


@pytest.mark.parametrize("share", ["entities", "both"])
def test_who_shares_nothing_with_anybody_is_told_once(tmp_path: Path, small: Graph, share: Share) -> None:
    with coordinator(settings_of("transe", share=share)) as stand_in:

        def every_other_time(asked: str) -> None:
            stand_in.alone = not stand_in.alone

        stand_in.before = every_other_time
        run = Run(tmp_path, small, share)
        run.start(stand_in)
    what = "entities and relations" if share == "both" else share
    (told,) = [text for text in run.said if "you train alone" in text]
    assert f"any of your {what}" in told
    assert "shared key" in told


@pytest.mark.parametrize(
    ("rounds", "stopped", "why"),
    [
        (4, False, ""),
        (2, False, ", as 9 evaluations on end were not better"),
        (2, True, ", as an operator stopped it"),
    ],
)
def test_why_a_training_ended_is_said(tmp_path: Path, small: Graph, rounds: int, stopped: bool, why: str) -> None:
    with coordinator(settings_of("transe"), ends_after=rounds, stopped=stopped) as stand_in:
        run = Run(tmp_path, small)
        run.start(stand_in)
    assert f"the training is over after {rounds} of 4 rounds{why}; concluding with its best version" in run.said


def test_an_epoch_that_is_done_is_not_run_again(tmp_path: Path, small: Graph) -> None:
    epochs: list[str] = []
    at = interrupt(3, 6)
    run = Run(tmp_path, small)

    def doing(text: str) -> None:
        at(text)
        if "epoch " in text and text.startswith("round "):
            epochs.append(text)

    run.doing = doing
    with coordinator(settings_of("transe")) as stand_in:
        run.until_it_ends(stand_in)
        fetched = [path for _, path, _, _ in stand_in.server.seen if path == "/round/1/embeddings"]
    assert epochs == [f"round {r}: epoch {e} of 3" for r in range(1, ROUNDS + 1) for e in range(1, 4)]
    assert len(fetched) == 1  # what was resumed needs no version


def test_every_evaluation_has_the_training_s_tolerance(tmp_path: Path, small: Graph) -> None:
    with coordinator(settings_of("transe", tie_tolerance=0.9)) as stand_in:
        results = Run(tmp_path, small).start(stand_in)
        reported = {(mode, split): e.sides["both"] for (_, mode, split), e in stand_in.evaluations.items()}
    tested = {(row.mode, "test"): row.sides["both"] for row in results}
    assert reported.keys() == tested.keys() | {("federation", "valid")}
    assert all(metrics.mrr_gap > 0.05 for metrics in reported.values())
    assert tested.items() <= reported.items()


def test_a_receipt_that_was_lost_is_asked_for_again_and_nothing_is_trained_twice(tmp_path: Path, small: Graph) -> None:
    def killed(asked: str) -> Reply | None:
        if asked == "PUT /round/2/update" and stand_in.after is killed:
            stand_in.after = lambda asked: None
            raised.append(asked)
            return 418, b""  # an answer that ends the client, with its update stored
        return None

    raised: list[str] = []
    run = Run(tmp_path, small)
    with coordinator(settings_of("transe")) as stand_in:
        expected = Run(tmp_path / "peace", small).start(stand_in), stand_in.updates
    with coordinator(settings_of("transe"), after=killed) as stand_in:
        with pytest.raises(Exception, match="418"):
            run.start(stand_in)
        sent = [body for _, path, _, body in stand_in.server.seen if path == "/round/2/update"]
        assert (run.start(stand_in), stand_in.updates) == expected
        again = [body for _, path, _, body in stand_in.server.seen if path == "/round/2/update"]
    assert raised
    assert again == sent * 2


def test_a_connection_that_drops_a_reply_changes_nothing(tmp_path: Path, small: Graph) -> None:
    with coordinator(settings_of("transe")) as stand_in:
        expected = Run(tmp_path / "a", small).start(stand_in), stand_in.updates
    with coordinator(settings_of("transe"), after=once("PUT /round/3/update")) as stand_in:
        assert (Run(tmp_path / "b", small).start(stand_in), stand_in.updates) == expected
        assert [path for _, path, _, _ in stand_in.server.seen].count("/round/3/update") == 2


@pytest.mark.parametrize("share", ["entities", "relations"])
@pytest.mark.parametrize("interrupted", [(), (8,)])
def test_a_round_that_was_trained_in_vain_is_as_if_the_client_had_not_been_drawn(
    tmp_path: Path, small: Graph, share: Share, interrupted: tuple[int, ...]
) -> None:
    with coordinator(settings_of("distmult", share=share), undrawn={3}) as stand_in:
        expected = Run(tmp_path / "a", small, share).start(stand_in), stand_in.updates
    with coordinator(settings_of("distmult", share=share), refused={3}) as stand_in:
        run = Run(tmp_path / "b", small, share, doing=interrupt(*interrupted))
        results, _ = run.until_it_ends(stand_in)
        assert [path for _, path, _, _ in stand_in.server.seen].count("/round/3/update") == 1
        assert (results, stand_in.updates) == expected
    assert sorted(expected[1]) == [1, 2, 4]
    assert any("what was trained in round 3 came too late" in line for line in run.said)


def test_a_pause_is_told_once_with_its_reason_and_waited_out(tmp_path: Path, small: Graph) -> None:
    asked_in_pause: list[str] = []

    def before(asked: str) -> Reply | None:
        if asked == "GET /round" and stand_in.round == 2:
            if stand_in.paused is None and not asked_in_pause:
                stand_in.paused = "below the quorum"
                stand_in.event += 1
            elif len(asked_in_pause) > 3:
                stand_in.paused = None
                stand_in.event += 1
            asked_in_pause.append(asked)
        return None

    run = Run(tmp_path, small)
    with coordinator(settings_of("transe"), before=before) as stand_in:
        run.start(stand_in)
        assert sorted(stand_in.updates) == [1, 2, 3, 4]
    assert run.said.count("the training is paused: below the quorum") == 1


def test_a_training_that_shares_more_than_was_told_is_not_trained(tmp_path: Path, small: Graph) -> None:
    with coordinator(settings_of("transe", share="both")) as stand_in:
        with pytest.raises(NotShared, match="--share both"):
            Run(tmp_path, small).start(stand_in)
        assert not any("embeddings" in path for _, path, _, _ in stand_in.server.seen)


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 16), ("float16", 13)])
def test_updates_travel_as_the_training_says(tmp_path: Path, small: Graph, dtype: str, bits: int) -> None:
    settings = settings_of("transe", wire_dtype=dtype, aggregation={"strategy": "frequency"})
    with coordinator(settings) as stand_in:
        Run(tmp_path, small).start(stand_in)
        arrays, message = stand_in.received[2]
    assert message["triples"] == len(small.train)
    assert not (arrays["entities"].view(np.uint32) & ((1 << bits) - 1)).any()
    assert arrays["frequencies"].sum() == sum(1 if h == t else 2 for h, _, t in small.train)


def test_a_number_that_does_not_fit_the_wire_ends_the_round_and_not_the_client(tmp_path: Path, small: Graph) -> None:
    settings = settings_of("transe", wire_dtype="float16", local={"learning_rate": 10.0, "local_epochs": 2})
    with coordinator(settings) as stand_in:
        stand_in.versions[1] = {"entities": np.full((len(small.entities), 8), 65503.0, np.float32)}
        with pytest.raises(InvalidRequest, match="bfloat16"):
            Run(tmp_path, small).start(stand_in)
        assert not list(tmp_path.rglob("round-*.safetensors"))


def test_other_relations_in_mid_training_are_refused(tmp_path: Path, small: Graph) -> None:
    fewer = Graph(small.entities, small.relations[:2], {s: t[t[:, 1] < 2] for s, t in small.triples.items()})
    with coordinator(settings_of("transe")) as stand_in:
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path, small, doing=interrupt(5)).start(stand_in)
        with pytest.raises(HomeUnusable, match="other entities or relations"):
            Run(tmp_path, fewer).start(stand_in)


def test_other_triples_in_mid_round_begin_the_round_anew(tmp_path: Path, small: Graph) -> None:
    triples = dict(small.triples) | {"train": small.train[:-1]}
    fewer = Graph(small.entities, small.relations, triples, small.left_out)
    with coordinator(settings_of("transe")) as stand_in:
        with pytest.raises(KeyboardInterrupt):
            Run(tmp_path, small, doing=interrupt(5)).start(stand_in)
        Run(tmp_path, fewer).start(stand_in)
        assert [stand_in.received[n][1]["triples"] for n in (1, 2)] == [len(small.train), len(fewer.train)]


def test_a_training_that_left_no_model_is_passed_over(tmp_path: Path, small: Graph) -> None:
    run = Run(tmp_path, small)

    def before(asked: str) -> Reply | None:
        if any("left no model" in line for line in run.said) and not stand_in.updates:
            stand_in.phase, stand_in.event = "training", 9
        return None

    with coordinator(settings_of("transe"), phase="finished", before=before) as stand_in:
        run.start(stand_in)
        assert sorted(stand_in.updates) == [1, 2, 3, 4]


def test_who_is_done_shows_its_rows_again(tmp_path: Path, small: Graph) -> None:
    run = Run(tmp_path, small)
    with coordinator(settings_of("transe")) as stand_in:
        results = run.start(stand_in)
        asked = len(stand_in.server.seen)
        assert run.start(stand_in) == results
        assert [path for _, path, _, _ in stand_in.server.seen[asked:]] == ["/round", "/round"]
    assert [r.mode for r in results] == ["isolation", "federation", "fusion"]


def test_who_does_not_fuse_has_the_federated_model_alone(tmp_path: Path, small: Graph) -> None:
    fused, alone = Run(tmp_path / "fused", small), Run(tmp_path / "alone", small, fuse=False)
    rows = []
    for run in (fused, alone):
        with coordinator(settings_of("transe")) as stand_in:
            rows.append(run.start(stand_in))
    assert rows[1] == [row for row in rows[0] if row.mode == "federation"]
    assert not any(text.startswith("isolation") for text in alone.said)
    (saved,) = {path.parent.name for path in alone.folder.rglob("model.json")}
    assert saved == "federation"


class Killed:
    """`tripleherd join` as a process of its own that is killed with SIGKILL on the way."""

    def __init__(self, folder: Path, data: Path, stand_in: StandIn) -> None:
        (folder / "shared-key").write_bytes(KEY)
        (folder / "invitation").write_text(INVITATION)
        self.home = folder / "home"
        self.command = [sys.executable, "-m", "trainer", "join", "--coordinator", stand_in.server.url]
        self.command += ["--data", str(data), "--home", str(self.home), "--name", "clinic"]
        self.command += ["--shared-key-file", str(folder / "shared-key")]
        self.command += ["--invitation-file", str(folder / "invitation")]
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(self.command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def kill_when_there_is(self, file: str) -> None:
        until = time.monotonic() + 60
        while not list(self.home.rglob(file)):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until, file
            time.sleep(0.002)
        self.kill()


def test_killed_at_any_point_it_goes_on_and_sends_the_same_updates(tmp_path: Path, umls: Graph) -> None:
    data = tmp_path / "clinic"
    write_folder(data, {split: umls.named(split)[:700] for split in umls.triples})
    # Small batches: an epoch lasts long enough to be killed in.
    settings = settings_of("mlp", local={"batch_size": 4, "local_epochs": 3, "dropout": 0.3})
    settings = settings.model_copy(update={"rounds": 2, "evaluate_every": 1})
    found = []
    for name in ("peace", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        with coordinator(settings) as stand_in:
            client = Killed(folder, data, stand_in)
            if name == "killed":

                def at(asked: str, client: Killed = client) -> Callable[[str], Reply | None]:
                    def kill(seen: str) -> Reply | None:
                        if seen == asked and client.process.poll() is None:
                            client.process.send_signal(signal.SIGKILL)
                        return None

                    return kill

                client.start()
                client.kill_when_there_is("round-1.part.safetensors")
                client.start()
                client.kill_when_there_is("round-1.part.safetensors")
                for place, asked in (
                    ("before", "PUT /round/1/update"),
                    ("after", "PUT /round/1/update"),
                    ("before", "PUT /round/2/evaluation"),
                    ("after", "GET /round/2/embeddings"),
                ):
                    setattr(stand_in, place, at(asked))
                    client.start()
                    client.process.communicate()
                    assert client.process.returncode == -signal.SIGKILL, asked
                    setattr(stand_in, place, lambda asked: None)
            client.start()
            output, _ = client.process.communicate(timeout=120)
            assert client.process.returncode == 0, output.decode()
            found.append((stand_in.updates, stand_in.evaluations))
            assert stand_in.joins == 1
            assert TRAINING in output.decode()
    assert found[0] == found[1]
    assert sorted(found[0][0]) == [1, 2]
