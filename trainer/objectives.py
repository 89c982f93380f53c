"""What a step of training minimises: the loss of some of a graph's queries, or of some of its (query, answer) pairs."""

from abc import ABC, abstractmethod
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from protocol.scoring import Loss
from protocol.trainings import LocalSettings
from trainer.answers import Answers, Ints
from trainer.interactions import Dropout, PointwiseLlama, QueryInteraction
from trainer.losses import NO_NEGATIVE, cross_entropy, margin_ranking, self_adversarial
from trainer.model import Model
from trainer.negatives import Sampler

SHARED_BY = 128
"""Positives that share their negatives: few enough that a batch meets many entities, enough for one product of all."""


class Objective(ABC):
    """A loss on a model and the answers that it is to learn.

    Attributes:
        items: What an epoch passes over once: that many queries or pairs.
    """

    items: int

    def __init__(self, model: Model, answers: Answers, settings: LocalSettings, generator: torch.Generator) -> None:
        self.model, self.answers, self.settings, self.generator = model, answers, settings, generator
        self.dropout = Dropout(settings.dropout, generator)

    @abstractmethod
    def loss(self, items: Ints) -> Tensor:
        """The mean loss of the items with these numbers, int64 [b], a scalar."""


class AllCandidates(Objective):
    """Cross-entropy of unique queries, each with all of its answers, over all candidates."""

    def __init__(self, model: Model, answers: Answers, settings: LocalSettings, generator: torch.Generator) -> None:
        super().__init__(model, answers, settings, generator)
        self.items = len(answers)

    def loss(self, items: Ints) -> Tensor:
        """One score a query and candidate."""
        scores = self.model.scores(self.answers.queries[items], self.dropout)
        row, answer = (torch.from_numpy(column).to(scores.device) for column in self.answers.rows(items))
        return cross_entropy(scores, row, answer, self.settings.label_smoothing)


class Pairs(Objective):
    """A loss of (query, answer) pairs, each against sampled negatives."""

    def __init__(self, model: Model, answers: Answers, settings: LocalSettings, generator: torch.Generator) -> None:
        super().__init__(model, answers, settings, generator)
        # A dense gradient for a few rows would be zeros for the most part, and slow to make.
        model.sparse = True
        self.items = len(answers.entities)
        self.asked = np.repeat(np.arange(len(answers)), np.diff(answers.offsets))
        self.sampler = Sampler(answers, len(model.entities))


class Sampled(Pairs):
    """Pairs whose candidates meet query vectors."""

    @property
    def interaction(self) -> QueryInteraction:
        """What makes query vectors."""
        assert isinstance(self.model.interaction, QueryInteraction)
        return self.model.interaction

    def loss(self, items: Ints) -> Tensor:
        """The loss that the settings name; distances are offset by the margin in the self-adversarial one (FedE)."""
        settings, asked = self.settings, self.asked[items]
        # A query that several of the pairs share is made once.
        unique, inverse = np.unique(asked, return_inverse=True)
        asking = self.model.batch(self.answers.queries[unique], self.dropout)
        query = self.interaction.query(self.model.tables, asking)
        query = F.embedding(torch.from_numpy(inverse).to(query.device), query)
        answer = torch.from_numpy(self.answers.entities[items])
        score = self._shared if settings.sampling == "shared" else self._own
        positive, negative = score(query, asked, answer)
        if settings.loss == "margin_ranking":
            return margin_ranking(positive, negative, settings.margin)
        offset = settings.margin if self.interaction.comparison.distance else 0.0
        return self_adversarial(positive + offset, negative + offset, settings.temperature)

    def _own(self, query: Tensor, asked: Ints, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the answers [b] and of each pair's own negatives [b, m]."""
        negatives = self.sampler.own(asked, self.settings.negatives, self.generator)
        index, rows = torch.cat([answer[:, None], negatives], dim=1).to(query.device), self.model.tables.entities
        if self.settings.optimizer == "sparse_adam":
            numbers, index = torch.unique(index, return_inverse=True)
            rows = self.model.tables.entity_rows(numbers)
        scores = self.interaction.comparison.chosen(query, rows, index)
        return scores[:, 0], scores[:, 1:]

    def _shared(self, query: Tensor, asked: Ints, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the answers [b] and of the negatives [b, m] that each chunk of pairs shares."""
        ends = [*range(0, len(asked), SHARED_BY), len(asked)]
        chunks = [slice(start, end) for start, end in pairwise(ends)]
        drawn = [self.sampler.shared(asked[chunk], self.settings.negatives, self.generator) for chunk in chunks]
        numbers = torch.cat([answer, *(pool for pool, _ in drawn)]).to(query.device)
        rows = self.model.tables.entity_rows(numbers)
        answers, *pools = rows.split([len(answer), *(len(pool) for pool, _ in drawn)])
        comparison = self.interaction.comparison
        positive = comparison.chosen(query, answers, torch.arange(len(answer), device=query.device)[:, None])[:, 0]
        negative = torch.cat([comparison.pairs(query[c], pool) for c, pool in zip(chunks, pools, strict=True)])
        known = torch.cat([known for _, known in drawn]).to(query.device)
        return positive, negative.masked_fill(known, NO_NEGATIVE)


class Pointwise(Pairs):
    """Pairs that the frozen model scores as triples, each against negatives of its own."""

    def loss(self, items: Ints) -> Tensor:
        """The loss that the settings name; `cross_entropy` is over the answer and its negatives."""
        asked, settings, interaction = self.asked[items], self.settings, self.model.interaction
        assert isinstance(interaction, PointwiseLlama)
        negatives = self.sampler.own(asked, settings.negatives, self.generator)
        candidates = torch.cat([torch.from_numpy(self.answers.entities[items])[:, None], negatives], dim=1)
        batch = self.model.batch(self.answers.queries[asked], self.dropout)
        margin = settings.margin if settings.loss == "margin_ranking" else 0.0
        loss = Loss(name=settings.loss, margin=margin, temperature=settings.temperature)
        return interaction.loss(self.model.tables, batch, candidates.to(batch.given.device), loss)


def objective_of(model: Model, answers: Answers, settings: LocalSettings, generator: torch.Generator) -> Objective:
    """The objective of the settings' loss and readout."""
    kind: type[Objective] = AllCandidates if settings.loss == "cross_entropy" else Sampled
    if isinstance(model.interaction, PointwiseLlama):
        kind = Pointwise
    return kind(model, answers, settings, generator)
