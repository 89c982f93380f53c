"""What a client does once a training has its best version: isolation, fusion, and test metrics of every mode."""

from dataclasses import dataclass

from protocol.problems import Conflict
from protocol.rounds import Evaluation, Mode, Split
from protocol.trainings import TrainingSettings
from trainer.checkpoints import TrainingHome
from trainer.clients.coordinator import Coordinator
from trainer.fusion import fit
from trainer.graph import Graph
from trainer.interactions import Interaction
from trainer.local import train_alone
from trainer.metrics import Ranks
from trainer.model import Array, Model
from trainer.ranking import Scorer, known_answers, rank
from trainer.reports import Report
from trainer.results import ClientResult
from trainer.saved import save_fusion, save_model
from trainer.seeds import seed_of


@dataclass(frozen=True)
class Measured:
    """Ranks a client's triples, and reports the metrics to the coordinator.

    Attributes:
        graph: The client's.
        coordinator: Gets the metrics.
        tolerance: The training's, for ties.
        report: Told in words what is done.
        now: Told in words what is being done.
    """

    graph: Graph
    coordinator: Coordinator
    tolerance: float
    report: Report
    now: Report

    def holds(self, split: Split) -> bool:
        """Whether the client has triples of a split."""
        return len(self.graph.triples[split]) > 0

    def ranks(self, split: Split, scorer: Scorer) -> Ranks:
        """Filtered realistic ranks of a split."""
        self.now(f"ranking {len(self.graph.triples[split])} {split} triples")
        return rank(self.graph.triples[split], known_answers(self.graph, split), scorer, self.tolerance)

    def send(self, mode: Mode, split: Split, version: int, ranks: Ranks) -> None:
        """Report metrics of a version."""
        evaluation = Evaluation(mode=mode, split=split, triples=len(ranks), sides=ranks.metrics())
        self.coordinator.send_evaluation(version, evaluation)


@dataclass(frozen=True)
class Conclusion:
    """The end of one training of one client.

    Attributes:
        fuse: Whether it trains alone as well, which takes as long as the rounds, and fuses both models.
    """

    name: str
    graph: Graph
    settings: TrainingSettings
    interaction: Interaction
    home: TrainingHome
    measured: Measured
    fuse: bool

    def results(self, best: int, state: dict[str, Array]) -> list[ClientResult]:
        """The client's rows; models are saved, and metrics reported.

        Args:
            best: The best version.
            state: The client's model of it.
        """
        save_model(
            self.home.model("federation"), self.graph, "federation", self.settings, state, self.interaction.texts
        )
        federation = Model.of_state(self.interaction, state).rank_scores
        scorers: dict[Mode, Scorer] = self._fused(federation) if self.fuse else {"federation": federation}
        if not self.measured.holds("test"):
            self.measured.report("there are no test triples to rank")
            return []
        return [self._test(mode, best, scorer) for mode, scorer in scorers.items()]

    def _fused(self, federation: Scorer) -> dict[Mode, Scorer]:
        isolation = Model.of_state(self.interaction, self._isolation()).rank_scores
        fusion = fit(self.graph, isolation, federation, self.settings.tie_tolerance)
        parts = self.home.model("isolation"), self.home.model("federation")
        save_fusion(self.home.model("fusion"), self.graph, fusion, parts)
        return {"isolation": isolation, "federation": federation, "fusion": fusion.scorer(isolation, federation)}

    def _isolation(self) -> dict[str, Array]:
        def report(text: str) -> None:
            self.measured.report(f"isolation: {text}")

        seed = seed_of(self.settings.seed, self.name, "isolation")
        trained = train_alone(self.graph, self.interaction, self.settings, seed, report, self.measured.now)
        state = dict(trained.state)
        save_model(self.home.model("isolation"), self.graph, "isolation", self.settings, state, self.interaction.texts)
        return state

    def _test(self, mode: Mode, version: int, scorer: Scorer) -> ClientResult:
        ranks = self.measured.ranks("test", scorer)
        try:
            self.measured.send(mode, "test", version, ranks)
        except Conflict as conflict:
            self.measured.report(conflict.detail)
        return client_result(self.graph, self.name, self.settings, mode, ranks)


def client_result(graph: Graph, name: str, settings: TrainingSettings, mode: Mode, ranks: Ranks) -> ClientResult:
    """A client's row of the results."""
    return ClientResult(
        interaction=settings.interaction,
        mode=mode,
        client=name,
        triples=len(ranks),
        candidates=len(graph.entities),
        left_out=graph.left_out["test"],
        sides=ranks.metrics(),
    )
