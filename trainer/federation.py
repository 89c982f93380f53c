"""One client's way through a training: train its rounds, evaluate versions, then conclude.

What the coordinator sees of a client: opaque keys, the rows that the training shares, counts and metrics. Triples and
names stay here, and so do relations (FedE) or entities (FedR).
"""

from collections.abc import Callable
from dataclasses import dataclass

from protocol.problems import Conflict, InvalidRequest, NotFound
from protocol.rounds import RoundView, TrainingSummary, UpdateHeader
from protocol.trainings import Share, TrainingSettings
from trainer.answers import Answers
from trainer.checkpoints import Checkpoint, TrainedRound, TrainingHome
from trainer.clients.coordinator import Coordinator
from trainer.conclusion import Conclusion, Measured
from trainer.graph import Graph
from trainer.home import Home
from trainer.interactions import Interaction
from trainer.model import Model
from trainer.ranking import known_answers
from trainer.reports import Report, unheard
from trainer.results import ClientResult
from trainer.seeds import seed_of
from trainer.sharing import TextsConsent, fresh_rows, from_wire, own_rows, require_texts, require_told, to_wire
from trainer.training import Trainer, snapshot_state

InteractionFor = Callable[[TrainingSettings], Interaction]
"""Makes the interaction of a training; refuses where the client's scorer is not the training's."""


@dataclass(frozen=True)
class Participant:
    """A client that has joined.

    Attributes:
        id: As `join` returned it.
        name: For people, and for seeds: the same name and training seed train the same.
        graph: Its own triples.
        coordinator: Calls are signed by its key.
        home: Where it keeps how far it is.
        interaction_for: Makes the interaction that a training asks for.
        report: Told in words what is done.
        now: Told in words what is being done.
        share: What it agreed to share when it joined.
        texts: What it agreed to tell its scorer in words, at most.
        fuse: Whether it trains alone as well when a training is over, and fuses both models.
    """

    id: str
    name: str
    graph: Graph
    coordinator: Coordinator
    home: Home
    interaction_for: InteractionFor
    report: Report
    now: Report = unheard
    share: Share = "entities"
    texts: TextsConsent = "none"
    fuse: bool = True

    def run(self) -> list[ClientResult]:
        """Take part in the coordinator's current training, or wait for one; returns this client's rows.

        Raises:
            NotShared: The training shares, or tells scorers, more than the client agreed to.
            HomeUnusable: What is kept of the training is of another graph, or damaged.
        """
        view = self.coordinator.view()
        while True:
            if view.training is None or view.settings is None:
                self.report("waiting for a training to be started")
            elif (results := self._results(view, view.training, view.settings)) is not None:
                return results
            self.now("waiting")
            view = self.coordinator.view(after=view.event)

    def _results(self, view: RoundView, training: str, settings: TrainingSettings) -> list[ClientResult] | None:
        """This client's rows of a training; None where it is over and has none for this client."""
        home = self.home.training(self.id, training)
        if (results := home.results()) is not None:
            return results
        if view.phase == "finished" and (view.best_version is None or not home.begun(self.graph.digest)):
            self.report(f"training {training} is over and left no model here; waiting for the next one")
            return None
        require_told(settings, self.share)
        require_texts(settings, self.texts)
        home.begin(self.graph.digest)
        interaction = self.interaction_for(settings)
        interaction.prepare(known_answers(self.graph, "test").queries)
        one = _Training(self, training, settings, interaction, home)
        if (best := one.take_part(view)) is None:
            return None
        results = one.conclude(best)
        home.keep_results(results)
        self.report(f"models: {home.path}")
        return results


@dataclass(frozen=True)
class _Training:
    """One training of one participant."""

    client: Participant
    id: str
    settings: TrainingSettings
    interaction: Interaction
    home: TrainingHome

    def take_part(self, view: RoundView) -> int | None:
        """Train and evaluate until the training is finished; returns its best version, if it has one."""
        if self._settle(view):
            view = self.client.coordinator.view()
        if view.phase in ("training", "evaluating") and not (view.selected or view.answered):
            self.client.report("the open round was drawn without this client; it takes part when it is drawn")
        alone = False
        paused: str | None = None
        while view.phase != "finished" and view.training == self.id:
            if view.paused != paused:
                self.client.report(f"the training is paused: {view.paused}" if view.paused else "the training goes on")
            paused = view.paused
            if view.alone and not alone:
                self.client.report(
                    f"none of the other members holds any of your {_what(self.settings.share)}, so you train alone: "
                    "have you the shared key that they have, and the same ids?"
                )
            alone = alone or view.alone
            if view.round is not None and view.selected and not view.answered:
                self._act(view, view.round)
            else:
                self._waiting(view)
            view = self.client.coordinator.view(after=view.event)
        # Another training may have begun since this one finished.
        (summary,) = self.client.coordinator.rounds(training=self.id, limit=1).trainings
        best = "no version was evaluated" if summary.best_version is None else "concluding with its best version"
        self.client.report(f"the training is over after {_end(summary)}; {best}")
        return summary.best_version

    def _act(self, view: RoundView, number: int) -> None:
        act = self._train if view.phase == "training" else self._evaluate
        try:
            act(view, number)
        except (Conflict, NotFound) as refusal:
            # The round closed while this client worked on it, or it answered before it was killed: go on with the next.
            self.client.report(f"round {number}: {refusal.detail}")

    def _waiting(self, view: RoundView) -> None:
        self.client.now("paused" if view.paused is not None else "waiting for the other clients")
        if view.phase == "joining":
            self.client.report(f"{view.clients} of {self.settings.clients} clients have joined")

    def _train(self, view: RoundView, number: int) -> None:
        trained = self._trained(view, number)
        self.home.keep_round(number, trained)
        if not self._settle(view)[number]:
            return
        best = "" if view.best_mrr is None else f", best validation MRR of all clients {view.best_mrr:.3f}"
        done = f"round {view.rounds_done + 1} of at most {self.settings.rounds}"
        self.client.report(f"{done}: loss {trained.loss:.3f}{best}")

    def _trained(self, view: RoundView, number: int) -> TrainedRound:
        """The round's local epochs, from the version of its number or from the epoch that a kill left."""
        data, local = self.client.graph.training_digest, self.settings.local
        kept = self.home.checkpoint(number, data)
        model = Model.of_state(self.interaction, snapshot_state(kept.arrays)) if kept else self._model_of(number)
        seed = seed_of(self.settings.seed, self.client.name, view.rounds_done + 1)
        trainer = Trainer(model, Answers.of(self.client.graph.train, local.sides), local, seed)
        if kept:
            trainer.restore(kept.arrays)
        first, loss = (kept.epochs, kept.loss) if kept else (0, 0.0)
        before, total = view.rounds_done * local.local_epochs, self.settings.rounds * local.local_epochs
        for epoch in range(first, local.local_epochs):
            self.client.now(f"round {view.rounds_done + 1}: epoch {epoch + 1} of {local.local_epochs}")
            loss = trainer.epoch(done=(before + epoch) / total)
            if epoch + 1 < local.local_epochs:
                self.home.keep_checkpoint(number, data, Checkpoint(trainer.snapshot(), epoch + 1, loss))
        return TrainedRound(model.state(), loss, len(self.client.graph.train))

    def _settle(self, view: RoundView) -> dict[int, bool]:
        """Send what is trained, again if need be, and keep or drop its own rows; says which rounds were taken."""
        taken = {}
        for number in self.home.unsettled():
            taken[number] = False
            trained = self.home.round(number)
            try:
                self._send(number, trained)
            except (Conflict, NotFound) as refusal:
                self.home.refuse(number)
                self.client.report(f"what was trained in round {number} came too late: {refusal.detail}")
            except InvalidRequest as refusal:
                self.home.refuse(number)  # the same again would be refused again
                if trained.triples == len(self.client.graph.train):
                    raise
                self.client.report(f"what was trained in round {number} was on other triples: {refusal.detail}")
            else:
                self.home.accept(number, own_rows(trained.state, self.settings), view.best_version)
                taken[number] = True
        return taken

    def _send(self, number: int, trained: TrainedRound) -> None:
        shared = to_wire(trained.state, self.client.graph.train, self.interaction, self.settings)
        header = UpdateHeader(triples=trained.triples, loss=trained.loss)
        self.client.coordinator.send_update(number, shared, header, self.settings)

    def _evaluate(self, view: RoundView, version: int) -> None:
        measured = self._measured()
        if not measured.holds("valid") and self.home.version(version) is not None:
            return  # nothing to report: the coordinator does not wait for this client
        model = self._model_of(version)
        self.home.keep_version(version, model.state(), view.best_version)
        if measured.holds("valid"):
            measured.send("federation", "valid", version, measured.ranks("valid", model.rank_scores))

    def _model_of(self, version: int) -> Model:
        """A version's shared rows with those of this client that belong to it."""
        graph = self.client.graph
        shared = self.client.coordinator.embeddings(version, self.settings, len(graph.entities), len(graph.relations))
        own = self.home.own_before(version)
        if own is None:
            own = fresh_rows(graph, self.interaction, self.settings, self.client.name)
        return Model.of_state(self.interaction, from_wire(shared, self.interaction) | own)

    def conclude(self, best: int) -> list[ClientResult]:
        """Isolation, fusion, and every mode's test metrics, reported to the coordinator and returned."""
        state = self.home.version(best) or self._model_of(best).state()
        client = self.client
        conclusion = Conclusion(
            client.name, client.graph, self.settings, self.interaction, self.home, self._measured(), client.fuse
        )
        return conclusion.results(best, state)

    def _measured(self) -> Measured:
        client = self.client
        return Measured(client.graph, client.coordinator, self.settings.tie_tolerance, client.report, client.now)


def _what(share: Share) -> str:
    return "entities and relations" if share == "both" else share


def _end(summary: TrainingSummary) -> str:
    """How many rounds a training had, and why no more."""
    settings, had = summary.settings, f"{summary.rounds_done} of {summary.settings.rounds} rounds"
    if summary.stopped:
        return f"{had}, as an operator stopped it"
    if summary.rounds_done < settings.rounds:
        return f"{had}, as {settings.patience} evaluations on end were not better"
    return had
