"""What `llama` needs of a client beside its tables: the words of its prompts, and where states of words are kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protocol.trainings import TrainingSettings
from trainer.dataset import texts_of
from trainer.graph import Graph
from trainer.reports import Report, unheard
from trainer.slot_texts import SlotTexts, slot_texts
from trainer.texts import Texts


@dataclass(frozen=True)
class Prompting:
    """What a client's prompts are made with.

    Attributes:
        texts: What they say of its rows; None where they say nothing.
        states: The file that keeps states of prompts of words alone; None keeps them in memory.
        now: Told what is being asked.
    """

    texts: SlotTexts | None = None
    states: Path | None = None
    now: Report = unheard


def prompting_of(
    settings: TrainingSettings, graph: Graph, sources: Sequence[str], folder: Path, say: Report, now: Report
) -> Prompting:
    """What a training's prompts are made with.

    Args:
        settings: Of the training.
        graph: In whose order texts are.
        sources: Where the graph's data come from; texts may lie there, of which an id's first one counts.
        folder: Keeps states.
        say: Told how much there is to say.
        now: Told what is being asked.

    Raises:
        DataError: Texts cannot be read.
    """
    told = settings.scorer is not None and settings.local.texts in ("names", "descriptions")
    found = [texts_of(source) for source in sources if told]
    entities = {name: text for texts in reversed(found) for name, text in texts.entities.items()}
    relations = {name: text for texts in reversed(found) for name, text in texts.relations.items()}
    texts = Texts(entities, relations)
    if told:
        say(texts.known(graph.entities, graph.relations))
    return with_texts(settings, slot_texts(settings, graph, texts), folder, now)


def with_texts(settings: TrainingSettings, texts: SlotTexts | None, folder: Path, now: Report) -> Prompting:
    """The same with texts that are known; states of another scorer, layer or text lie in another file."""
    if texts is None or settings.local.vectors or settings.scorer is None:
        return Prompting(texts, None, now)
    scorer = settings.scorer.model_dump(exclude={"model"})
    key = hashlib.sha256(json.dumps([scorer, settings.local.layer, texts.digest]).encode()).hexdigest()
    return Prompting(texts, folder / f"states-{key[:16]}.safetensors", now)
