"""Claims: a training step of TransE with the published sampling takes an eighth of the published formulation's time.

With shared negatives it takes a twentieth; ComplEx's a twentieth, RotatE's a fortieth; filtered ranks of one triple a
fifteenth (TransE) and a hundredth (RotatE).

The published formulation (FedE's, after RotatE's) is written out plainly here: rows of all negatives gathered into a
[batch, negatives, dim] tensor, norms of it, Adam over all rows; evaluation of one triple after the other by sorting all
scores. At FB15k-237's size: 14,541 entities, batch 512, 256 negatives, dim 128, complex-valued rows twice that. Run:
`python -m benchmarks.kge_step`
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import in_turn, show
from protocol.trainings import InteractionName, LocalSettings
from trainer.answers import Answers
from trainer.interactions import interaction_of
from trainer.model import Model
from trainer.ranking import rank
from trainer.training import Trainer

THREADS = 2
ENTITIES, RELATIONS, TRIPLES = 14_541, 237, 100_000
BATCH, NEGATIVES, GAMMA, EPSILON = 512, 256, 10.0, 2.0
COLUMNS: dict[InteractionName, int] = {"transe": 128, "complex": 256, "rotate": 256}
ROUNDS, RANKED, RANKED_TOGETHER = 7, 5, 500
STEPS = 10
"""In a row, as in training: a lone one finds the data of another formulation in the caches."""
LOCAL = LocalSettings(
    loss="self_adversarial", sides="tail", batch_size=BATCH, negatives=NEGATIVES, margin=GAMMA, learning_rate=1e-3
)


def published_score(name: InteractionName, head: Tensor, relation: Tensor, tail: Tensor) -> Tensor:
    """Scores of rows that broadcast against each other over the last dimension's negatives."""
    if name == "transe":
        distance: Tensor = torch.norm(head + relation - tail, p=1, dim=2)
        return GAMMA - distance
    h, t = torch.chunk(head, 2, dim=2), torch.chunk(tail, 2, dim=2)
    if name == "complex":
        r = torch.chunk(relation, 2, dim=2)
        real, imaginary = h[0] * r[0] - h[1] * r[1], h[0] * r[1] + h[1] * r[0]
        return (real * t[0] + imaginary * t[1]).sum(dim=2)
    phase = relation / ((GAMMA + EPSILON) / 128 / np.pi)
    real = h[0] * torch.cos(phase) - h[1] * torch.sin(phase) - t[0]
    imaginary = h[0] * torch.sin(phase) + h[1] * torch.cos(phase) - t[1]
    moduli: Tensor = torch.stack([real, imaginary]).norm(dim=0)
    return GAMMA - moduli.sum(dim=2)


class Published:
    """The published formulation of one interaction."""

    def __init__(self, name: InteractionName, triples: np.ndarray) -> None:
        self.name, self.triples = name, torch.from_numpy(triples)
        width, bound = COLUMNS[name], (GAMMA + EPSILON) / 128
        relation = width // 2 if name == "rotate" else width
        self.entities = torch.empty(ENTITIES, width).uniform_(-bound, bound).requires_grad_()
        self.relations = torch.empty(RELATIONS, relation).uniform_(-bound, bound).requires_grad_()
        self.optimizer = torch.optim.Adam([self.entities, self.relations], lr=1e-3)
        self.known: dict[tuple[int, int], set[int]] = {}
        for head, relation_, tail in triples.tolist():
            self.known.setdefault((head, relation_), set()).add(tail)

    def step(self) -> None:
        """One step, without the time that its data loader takes to draw and filter the negatives."""
        batch = self.triples[torch.randint(len(self.triples), (BATCH,))]
        negatives = torch.randint(ENTITIES, (BATCH, NEGATIVES))
        head, relation = self.entities[batch[:, 0]][:, None], self.relations[batch[:, 1]][:, None]
        negative = published_score(
            self.name, head, relation, self.entities[negatives.view(-1)].view(BATCH, NEGATIVES, -1)
        )
        positive = published_score(self.name, head, relation, self.entities[batch[:, 2]][:, None])
        weights = F.softmax(negative, dim=1).detach()
        loss = (-F.logsigmoid(positive).squeeze(1).mean() - (weights * F.logsigmoid(-negative)).sum(dim=1).mean()) / 2
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def rank_one(self, triple: np.ndarray) -> None:
        """The filtered rank of one triple's tail, as published: all candidates scored, all scores sorted, twice."""
        h, r, t = triple.tolist()
        with torch.no_grad():
            head, relation = self.entities[h].view(1, 1, -1), self.relations[r].view(1, 1, -1)
            scores = published_score(self.name, head, relation, self.entities[None])
            labels = torch.zeros(1, ENTITIES, dtype=torch.bool)
            labels[0, list(self.known[h, r])] = True
            target = scores[0, t].clone()
            scores = torch.where(labels, torch.full_like(scores, -1e7), scores)
            scores[0, t] = target
            1 + torch.argsort(torch.argsort(scores, dim=1, descending=True), dim=1)[0, t]


def ours(
    name: InteractionName, triples: np.ndarray, answers: Answers, sampling: str
) -> tuple[Model, Callable[[], object]]:
    """Our model, and one step of its training, drawing and filtering its negatives included."""
    interaction = interaction_of(name)
    random = np.random.default_rng(0)

    def table(rows: int, columns: int) -> np.ndarray:
        return random.uniform(-0.09, 0.09, (rows, columns)).astype(np.float32)

    width = COLUMNS[name]
    relations = table(RELATIONS * (2 if interaction.reciprocal else 1), interaction.relation_width(width))
    model = Model(interaction, table(ENTITIES, width), relations, {})
    trainer = Trainer(model, answers, LOCAL.model_copy(update={"sampling": sampling}), 0)
    return model, lambda: trainer._step(torch.randint(trainer.objective.items, (BATCH,)))


def steps(step: Callable[[], object]) -> Callable[[], None]:
    """Some steps in a row."""

    def run() -> None:
        for _ in range(STEPS):
            step()

    return run


def measure(name: InteractionName, triples: np.ndarray) -> dict[str, float]:
    """Ratios of the published formulation's times to ours."""
    answers, published = Answers.of(triples, "tail"), Published(name, triples)
    model, own = ours(name, triples, answers, "own")
    _, shared = ours(name, triples, answers, "shared")
    taken = in_turn(ROUNDS, published=steps(published.step), own=steps(own), shared=steps(shared))
    known, asked = Answers.of(triples), triples[:RANKED_TOGETHER]

    def rank_ours() -> None:
        rank(asked, known, model.rank_scores)

    def rank_published() -> None:
        for triple in asked[:RANKED]:
            published.rank_one(triple)

    ranking = in_turn(3, published=rank_published, ours=rank_ours)
    # Ours ranks both sides of a triple, the published code its tail alone.
    one = {"published": ranking["published"] / RANKED, "ours": ranking["ours"] / (2 * len(asked))}
    return {
        "published_ms": taken["published"] / STEPS * 1e3,
        "own": taken["published"] / taken["own"],
        "shared": taken["published"] / taken["shared"],
        "published_rank_ms": one["published"] * 1e3,
        "rank": one["published"] / one["ours"],
    }


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    sizes = (ENTITIES, RELATIONS, ENTITIES)
    # Squares of uniform numbers: few entities stand in many triples, as in real graphs.
    columns = [(random.random(TRIPLES) ** 2 * size).astype(np.int64) for size in sizes]
    triples = np.unique(np.stack(columns, axis=1), axis=0)
    triples = triples[random.permutation(len(triples))]
    rows, result = [], dict[str, float]()
    for name in COLUMNS:
        found = measure(name, triples)
        result |= {f"{name}_{key}": value for key, value in found.items()}
        times = [f"{found[key]:.1f} ms" for key in ("published_ms", "published_rank_ms")]
        rows.append(
            (name, times[0], f"{found['own']:.1f} x", f"{found['shared']:.1f} x", times[1], f"{found['rank']:.0f} x")
        )
    columns_ = ("interaction", "published step", "same sampling", "shared negatives", "published rank", "rank")
    show(f"{THREADS} threads, {ENTITIES} entities, batch {BATCH}, {NEGATIVES} negatives", rows, columns_, result)


if __name__ == "__main__":
    main()
