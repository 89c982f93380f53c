"""Training on one graph alone: isolation, where it is a client's own, and collection, where it is all clients' pooled.

Both stop as federation does: an evaluation on validation triples every so many epochs, the best model kept, and an end
after `patience` evaluations without a better one. An epoch here counts as a local epoch there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from protocol.trainings import Dense, Sides, TrainingSettings
from trainer.answers import Answers
from trainer.graph import Graph
from trainer.interactions import Interaction
from trainer.model import Array, Model
from trainer.ranking import known_answers, rank
from trainer.reports import Report, unheard
from trainer.training import Trainer


@dataclass(frozen=True)
class Trained:
    """The best model by validation MRR, and how it was found."""

    state: Mapping[str, Array]
    epochs: int
    valid_mrr: float


def fresh_model(graph: Graph, interaction: Interaction, settings: TrainingSettings, seed: int) -> Model:
    """A model with random rows, at the scales that the training fixes."""
    generator = torch.Generator().manual_seed(seed)
    entities = fresh_entities(graph, interaction, settings, generator)
    relations = fresh_relations(graph, interaction, settings, generator)
    tensors = interaction.dense(settings.dim, settings.local)
    dense = {name: fresh_dense(tensor, generator) for name, tensor in tensors.items()}
    return Model(interaction, entities, relations, dense)


def fresh_entities(
    graph: Graph, interaction: Interaction, settings: TrainingSettings, generator: torch.Generator
) -> Array:
    """Random entity rows, float32 [entities, dim]."""
    return _uniform((len(graph.entities), settings.dim), settings.entity_init, generator)


def fresh_relations(
    graph: Graph, interaction: Interaction, settings: TrainingSettings, generator: torch.Generator
) -> Array:
    """Random relation rows, float32 [relations, width], twice as many where the interaction is reciprocal."""
    count = len(graph.relations) * (2 if interaction.reciprocal else 1)
    return interaction.init_relations(count, settings.dim, settings.entity_init, generator).numpy()


def fresh_dense(dense: Dense, generator: torch.Generator) -> Array:
    """A random dense tensor, float32 of its shape."""
    return _uniform(tuple(dense.shape), dense.init, generator)


def _uniform(shape: tuple[int, ...], init: float, generator: torch.Generator) -> Array:
    array: Array = ((torch.rand(shape, generator=generator) * 2 - 1) * init).numpy()
    return array


def valid_mrr(model: Model, graph: Graph, sides: Sides, tolerance: float = 0.0) -> float:
    """Filtered realistic MRR on validation triples, of the sides that are learnt; `tolerance` as of `rank`."""
    ranks = rank(graph.triples["valid"], known_answers(graph, "valid"), model.rank_scores, tolerance)
    return ranks.metrics()[sides].mrr


def train_alone(
    graph: Graph,
    interaction: Interaction,
    settings: TrainingSettings,
    seed: int,
    report: Report,
    now: Report = unheard,
) -> Trained:
    """Train a fresh model on one graph and return the best one by validation MRR; the last one without validation.

    `report` is told of every evaluation, `now` of every epoch.
    """
    model = fresh_model(graph, interaction, settings, seed)
    trainer = Trainer(model, Answers.of(graph.train, settings.local.sides), settings.local, seed)
    every = settings.evaluate_every * settings.local.local_epochs
    limit = settings.rounds * settings.local.local_epochs
    best, waited, has_valid = Trained(model.state(), 0, -np.inf), 0, len(graph.triples["valid"]) > 0
    for epoch in range(1, limit + 1):
        now(f"epoch {epoch} of at most {limit}")
        trainer.epoch(done=(epoch - 1) / limit)
        if epoch % every and epoch != limit:
            continue
        mrr = valid_mrr(model, graph, settings.local.sides, settings.tie_tolerance) if has_valid else np.nan
        if not has_valid or mrr > best.valid_mrr:
            best, waited = Trained(model.state(), epoch, mrr), 0
        else:
            waited += 1
        report(f"epoch {epoch} of at most {limit}, validation MRR {mrr:.3f}, best {best.valid_mrr:.3f}")
        if waited >= settings.patience:
            report(f"epoch {epoch} is the last, as {settings.patience} evaluations on end were not better")
            break
    return best
