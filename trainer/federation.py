"""One client's way through a training: join, train its rounds, evaluate versions, then isolation and fusion.

What the coordinator sees of a client: opaque entity keys, trained rows, counts and metrics. Triples, names and
relations stay here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from protocol.federation import Evaluation, JoinRequest, Mode, RoundView, Split, TrainingSettings, UpdateHeader
from protocol.keys import entity_keys
from protocol.problems import Conflict, NotFound, Unauthorized
from trainer.answers import Answers
from trainer.coordinator import Coordinator
from trainer.fusion import fit
from trainer.graph import Graph
from trainer.home import Credentials, Home, TrainingHome
from trainer.interactions import Interaction
from trainer.local import Report, fresh_relations, train_alone, unheard
from trainer.model import Array, Model
from trainer.ranking import Ranks, Scorer, known_answers, rank
from trainer.results import ClientResult
from trainer.saved import save_fusion, save_model
from trainer.training import Trainer


class NotInvited(Exception):
    """A client that the coordinator does not know joins without an invitation."""


class TrainingStopped(Exception):
    """A training ended without a model."""


InteractionFor = Callable[[TrainingSettings], Interaction]
"""Makes the interaction of a training; refuses where the client's scorer is not the training's."""


def seed_of(*parts: object) -> int:
    """A 62-bit seed that depends on every part, so that clients, rounds and modes do not share random numbers."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 2


def join(
    coordinator: Coordinator, home: Home, graph: Graph, name: str, shared_key: bytes, invitation: str | None
) -> str:
    """Become a client, or go on as the one that the home knows; returns the client's id and sets its token.

    Raises:
        NotInvited: There is no invitation, and the coordinator knows no earlier client of this home.
    """
    known = home.credentials(coordinator.service.url, graph.digest)
    triples = {split: len(graph.triples[split]) for split in ("train", "valid", "test")}
    if not _is_member(coordinator, known) or known.triples != triples:
        if invitation is None:
            raise NotInvited("joining, also again, needs the coordinator's invitation token: give --invitation-file")
        coordinator.service.token = invitation
        keys = entity_keys(shared_key, graph.entities)
        reply = coordinator.join(JoinRequest(name=name, join_key=known.join_key, entities=keys, triples=triples))
        known = known.model_copy(update={"client": reply.client, "secret": reply.secret, "triples": triples})
        home.keep(known)
        coordinator.service.token = known.secret
    return str(known.client)


def _is_member(coordinator: Coordinator, known: Credentials) -> bool:
    """Whether the coordinator knows the secret that was kept; it does not if its state was lost."""
    coordinator.service.token = known.secret
    if known.secret is None:
        return False
    try:
        coordinator.view()
    except Unauthorized:
        return False
    return True


def opaque_order(graph: Graph, shared_key: bytes) -> Graph:
    """The graph with entities and relations in the order of their keys under the clients' shared key.

    Rows go over the wire in the graph's order. In an alphabetical one, whoever knows the vocabulary could name them.
    """

    def ordered(names: list[str]) -> list[str]:
        return [name for _, name in sorted(zip(entity_keys(shared_key, names), names, strict=True))]

    return graph.in_order(ordered(graph.entities), ordered(graph.relations))


@dataclass(frozen=True)
class Participant:
    """A client that has joined.

    Attributes:
        id: As `join` returned it.
        name: For people, and for seeds: the same name and training seed train the same.
        graph: Its own triples.
        coordinator: Calls carry its secret.
        home: Where it keeps how far it is.
        interaction_for: Makes the interaction that a training asks for.
        names_sent: Whether the scorer is told names; kept beside the models, which mean nothing without.
        report: Told in words what is done.
        now: Told in words what is being done.
    """

    id: str
    name: str
    graph: Graph
    coordinator: Coordinator
    home: Home
    interaction_for: InteractionFor
    names_sent: bool
    report: Report
    now: Report = unheard

    def run(self) -> list[ClientResult]:
        """Take part in the coordinator's current training, or wait for one; returns this client's rows."""
        view = self.coordinator.view()
        while True:
            if view.training is None or view.settings is None:
                self.report("waiting for a training to be started")
            else:
                training = self.home.training(self.id, view.training)
                if (results := training.results()) is not None:
                    return results
                if view.phase != "finished" or training.begun():
                    break
                self.report(f"training {view.training} finished without this client; waiting for the next one")
            self.now("waiting")
            view = self.coordinator.view(after=view.event)
        one = _Training(self, view.training, view.settings, self.interaction_for(view.settings), training)
        results = one.conclude(one.take_part(view))
        training.keep_results(results)
        self.report(f"models: {training.path}")
        return results


@dataclass(frozen=True)
class _Training:
    """One training of one participant."""

    client: Participant
    id: str
    settings: TrainingSettings
    interaction: Interaction
    home: TrainingHome

    def take_part(self, view: RoundView) -> int:
        """Train and evaluate until the training is finished; returns its best version."""
        while view.phase != "finished" and view.training == self.id:
            if view.round is not None and view.selected and not view.answered:
                self._act(view, view.round)
            else:
                self._waiting(view)
            view = self.client.coordinator.view(after=view.event)
        # Another training may have begun since this one finished.
        (summary,) = self.client.coordinator.rounds(training=self.id, limit=1).trainings
        if summary.best_version is None:
            raise TrainingStopped(f"training {self.id} was stopped before its first round")
        return summary.best_version

    def _act(self, view: RoundView, number: int) -> None:
        act = self._train if view.phase == "training" else self._evaluate
        try:
            act(view, number)
        except (Conflict, NotFound) as refusal:
            # The round closed while this client worked on it, or it answered before it was killed: go on with the next.
            self.client.report(f"round {number}: {refusal.detail}")

    def _waiting(self, view: RoundView) -> None:
        self.client.now("waiting for the other clients")
        if view.phase == "joining":
            self.client.report(f"{view.clients} of {self.settings.clients} clients have joined")

    def _train(self, view: RoundView, number: int) -> None:
        """Local epochs from the round's global rows; what was trained before a kill is sent, not trained again."""
        if (done := self.home.round(number)) is None:
            model = self._model_of(number)
            seed = seed_of(self.settings.seed, self.client.name, number)
            trainer = Trainer(model, Answers.of(self.client.graph.train), self.settings.local, seed)
            epochs = self.settings.local.local_epochs
            before, total = view.rounds_done * epochs, self.settings.rounds * epochs
            for epoch in range(epochs):
                self.client.now(f"round {view.rounds_done + 1}: epoch {epoch + 1} of {epochs}")
                loss = trainer.epoch(done=(before + epoch) / total)
            done = model.state(), loss
            self.home.keep_round(number, *done)
        state, loss = done
        shared = {name: array for name, array in state.items() if name != "relations"}
        header = UpdateHeader(triples=len(self.client.graph.train), loss=loss)
        self.client.coordinator.send_update(number, shared, header)
        best = "" if view.best_mrr is None else f", best validation MRR {view.best_mrr:.3f}"
        self.client.report(f"round {view.rounds_done + 1} of at most {self.settings.rounds}: loss {loss:.3f}{best}")

    def _evaluate(self, view: RoundView, version: int) -> None:
        model = self._model_of(version)
        self.home.keep_version(version, model.state(), view.best_version)
        if len(self.client.graph.triples["valid"]):
            self._send("federation", "valid", version, self._ranks("valid", model.rank_scores))

    def _model_of(self, version: int) -> Model:
        """A version's global rows with this client's latest relations before it."""
        entities = len(self.client.graph.entities)
        shared = self.client.coordinator.embeddings(version, self.settings, entities)
        relations = self.home.relations_before(version)
        if relations is None:
            generator = torch.Generator().manual_seed(seed_of(self.settings.seed, self.client.name, "relations"))
            relations = fresh_relations(self.client.graph, self.interaction, self.settings, generator)
        return Model.of_state(self.interaction, shared | {"relations": relations})

    def conclude(self, best: int) -> list[ClientResult]:
        """Isolation, fusion, and every mode's test metrics, reported to the coordinator and returned."""
        graph, settings = self.client.graph, self.settings
        state = self.home.version(best) or self._model_of(best).state()
        save_model(self.home.model("federation"), graph, "federation", settings, state, self.client.names_sent)
        federation = Model.of_state(self.interaction, state).rank_scores
        isolation = Model.of_state(self.interaction, self._isolation()).rank_scores
        fusion = fit(graph, isolation, federation)
        save_fusion(self.home.model("fusion"), graph, settings, fusion, self.client.names_sent)
        scorers: dict[Mode, Scorer] = {
            "isolation": isolation,
            "federation": federation,
            "fusion": fusion.scorer(isolation, federation),
        }
        if not len(graph.triples["test"]):
            self.client.report("there are no test triples to rank")
            return []
        return [self._test(mode, best, scorer) for mode, scorer in scorers.items()]

    def _isolation(self) -> dict[str, Array]:
        def report(text: str) -> None:
            self.client.report(f"isolation: {text}")

        seed = seed_of(self.settings.seed, self.client.name, "isolation")
        trained = train_alone(self.client.graph, self.interaction, self.settings, seed, report, self.client.now)
        state = dict(trained.state)
        home = self.home.model("isolation")
        save_model(home, self.client.graph, "isolation", self.settings, state, self.client.names_sent)
        return state

    def _test(self, mode: Mode, version: int, scorer: Scorer) -> ClientResult:
        ranks = self._ranks("test", scorer)
        try:
            self._send(mode, "test", version, ranks)
        except Conflict as conflict:
            self.client.report(conflict.detail)
        return client_result(self.client.graph, self.client.name, self.settings, mode, ranks)

    def _ranks(self, split: Split, scorer: Scorer) -> Ranks:
        graph = self.client.graph
        self.client.now(f"ranking {len(graph.triples[split])} {split} triples")
        return rank(graph.triples[split], known_answers(graph, split), scorer)

    def _send(self, mode: Mode, split: Split, version: int, ranks: Ranks) -> None:
        evaluation = Evaluation(mode=mode, split=split, triples=len(ranks.tail), sides=ranks.metrics())
        self.client.coordinator.send_evaluation(version, evaluation)


def client_result(graph: Graph, name: str, settings: TrainingSettings, mode: Mode, ranks: Ranks) -> ClientResult:
    """A client's row of the results."""
    return ClientResult(
        interaction=settings.interaction,
        mode=mode,
        client=name,
        triples=len(ranks.tail),
        candidates=len(graph.entities),
        left_out=graph.left_out["test"],
        sides=ranks.metrics(),
    )
