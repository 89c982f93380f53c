"""`llama` from words alone: what is asked for, once, and what is kept of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from protocol.messages import HEAD, TAIL
from protocol.trainings import LocalSettings, ScorerIdentity, TrainingSettings
from trainer.answers import Answers, Queries
from trainer.graph import Graph
from trainer.interactions.llama_calls import EncoderCall, Floats
from trainer.interactions.llama_words import WordLlama
from trainer.local import fresh_model
from trainer.model import Model
from trainer.presets import training_settings
from trainer.prompting import Prompting, prompting_of, with_texts
from trainer.ranking import known_answers
from trainer.reports import unheard
from trainer.training import Trainer, snapshot_state

from .support import queries

HIDDEN = 6
LOCAL = LocalSettings(texts="names", vectors=False, learning_rate=0.05, dropout=0.2)
IDENTITY = ScorerIdentity(model="m", revision="r", dtype="float32", query_hash="q", hidden=HIDDEN)


class Reader:
    """A stand-in for the frozen LLaMA whose state says which words it read, and for which side."""

    hidden = HIDDEN

    def __init__(self) -> None:
        self.asked: list[int] = []

    def encode(self, call: EncoderCall, keep: bool = False) -> Floats:
        """As the scorer's `/encode`."""
        assert not keep
        assert call.entities.vectors.shape == (len(call.entities.texts), 0, HIDDEN)
        self.asked.append(len(call.queries))
        states = []
        for (given, relation), side in zip(call.queries, call.sides, strict=True):
            words = f"{call.entities.texts[given].label} {call.relations.texts[relation].label} {side}"
            states.append(np.random.default_rng(list(words.encode())).standard_normal(HIDDEN))
        return np.array(states, dtype=np.float32)


def settings_for(reader: Reader, **changes: object) -> TrainingSettings:
    return training_settings("llama", reader, IDENTITY, dim=8, **{"local": LOCAL} | changes)


def made(graph: Graph, folder: Path, said: list[str] | None = None) -> tuple[WordLlama, Reader]:
    reader = Reader()
    now = (lambda text: None) if said is None else said.append
    return WordLlama(reader, LOCAL, prompting_of(settings_for(reader), graph, [], folder, unheard, now)), reader


def every(graph: Graph) -> Queries:
    return known_answers(graph, "test").queries


def trainer_of(graph: Graph, llama: WordLlama, reader: Reader) -> Trainer:
    model = fresh_model(graph, llama, settings_for(reader), seed=0)
    return Trainer(model, Answers.of(graph.train), LOCAL, seed=5)


def test_training_asks_for_nothing_that_was_prepared(small: Graph, tmp_path: Path) -> None:
    llama, reader = made(small, tmp_path)
    llama.prepare(every(small))
    assert sum(reader.asked) == len(every(small))
    trainer = trainer_of(small, llama, reader)
    losses = [trainer.epoch(0.0) for _ in range(40)]
    trainer.model.rank_scores(every(small))
    assert sum(reader.asked) == len(every(small))
    assert losses[-1] < 0.95 * losses[0]


def test_states_are_asked_for_but_once_in_the_life_of_a_home(small: Graph, tmp_path: Path) -> None:
    llama, _ = made(small, tmp_path)
    llama.prepare(every(small))
    again, reader = made(small, tmp_path)
    again.prepare(every(small))
    assert reader.asked == []
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    again, reader = made(small, tmp_path)
    again.prepare(every(small))
    assert sum(reader.asked) == len(every(small))


def test_what_was_asked_for_before_a_kill_is_kept(
    small: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.interactions.llama_words.QUERIES_AT_ONCE", 5)
    said: list[str] = []
    llama, reader = made(small, tmp_path, said)
    encode = reader.encode

    def killed(call: EncoderCall, keep: bool = False) -> Floats:
        if sum(reader.asked) >= 20:
            raise KeyboardInterrupt
        return encode(call, keep)

    monkeypatch.setattr(reader, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        llama.prepare(every(small))
    assert said[-1].endswith("20 are done")
    again, reader = made(small, tmp_path)
    again.prepare(every(small))
    assert sum(reader.asked) == len(every(small)) - 20


CHANGES = [{"revision": "r2"}, {"query_hash": "q2"}, {"dtype": "bfloat16"}]


@pytest.mark.parametrize("change", [*CHANGES, {"layer": 3}, {"texts": "anonymised"}], ids=str)
def test_states_of_another_scorer_layer_or_text_are_others(
    small: Graph, tmp_path: Path, change: dict[str, object]
) -> None:
    of_scorer = {name: value for name, value in change.items() if name in ScorerIdentity.model_fields}
    local = LOCAL.model_copy(update={name: value for name, value in change.items() if name not in of_scorer})
    settings = settings_for(Reader())
    other = settings.model_copy(update={"local": local, "scorer": IDENTITY.model_copy(update=of_scorer)})
    files = {prompting_of(s, small, [], tmp_path, print, print).states for s in (settings, other)}
    assert len(files) == 2
    same = settings.model_copy(update={"scorer": IDENTITY.model_copy(update={"model": "the same, called otherwise"})})
    assert prompting_of(same, small, [], tmp_path, print, print).states in files


def test_nothing_of_a_relation_is_trained(small: Graph, tmp_path: Path) -> None:
    llama, reader = made(small, tmp_path)
    settings = settings_for(reader)
    assert settings.dense.keys() == {"adapter.state"}
    model = fresh_model(small, llama, settings, seed=0)
    assert model.state()["relations"].shape == (2 * len(small.relations), 0)


def test_both_sides_of_a_relation_are_different_queries_and_reciprocal_rows_are_not(
    small: Graph, tmp_path: Path
) -> None:
    llama, reader = made(small, tmp_path)
    model = fresh_model(small, llama, settings_for(reader), seed=0)
    asked = queries((0, 1, TAIL), (0, 1, HEAD))
    tail, head = model.rank_scores(asked)
    assert not np.allclose(tail, head)
    assert reader.asked == [2]


@pytest.mark.parametrize("cut", [1, 3])
def test_a_snapshot_goes_on_byte_for_byte(small: Graph, tmp_path: Path, cut: int) -> None:
    llama, reader = made(small, tmp_path)
    whole = trainer_of(small, llama, reader)
    for _ in range(cut):
        whole.epoch(0.0)
    arrays = whole.snapshot()
    again = Trainer(Model.of_state(llama, snapshot_state(arrays)), Answers.of(small.train), LOCAL, seed=5)
    again.restore(arrays)
    assert whole.epoch(0.0) == again.epoch(0.0)
    for name, array in whole.model.state().items():
        assert array.tobytes() == again.model.state()[name].tobytes()


def test_texts_that_were_saved_are_asked_for_as_they_are(small: Graph, tmp_path: Path) -> None:
    llama, reader = made(small, tmp_path)
    assert llama.texts is not None
    prompting = with_texts(settings_for(reader), llama.texts, tmp_path, print)
    assert prompting == Prompting(llama.texts, llama.prompting.states, print)
    assert torch.equal(
        *(fresh_model(small, one, settings_for(reader), 0).scores(every(small)) for one in (
            llama, WordLlama(reader, LOCAL, prompting)
        ))
    )  # fmt: skip
