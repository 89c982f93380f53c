import math

import numpy as np
import pytest

from protocol.tensors import decode, encode
from protocol.trainings import (
    InteractionName,
    LocalSettings,
    ScorerIdentity,
    Share,
    TrainingSettings,
    model_tensors,
    update_tensors,
)
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.interactions.rotate import RADIANS
from trainer.local import fresh_model
from trainer.model import Model
from trainer.presets import training_settings
from trainer.sharing import (
    NotShared,
    frequencies,
    fresh_rows,
    from_wire,
    own_rows,
    require_texts,
    require_told,
    shared_dense,
    to_wire,
)

from .encoders import HIDDEN, TinyEncoder
from .support import queries, small_settings

NAMES: list[InteractionName] = ["transe", "distmult", "complex", "rotate", "mlp"]
SHARES: list[Share] = ["entities", "relations", "both"]
ASKED = queries((0, 0, 0), (1, 1, 1), (2, 2, 0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", SHARES)
def test_what_goes_over_the_wire_and_what_stays_make_the_model_again(
    small: Graph, name: InteractionName, share: Share
) -> None:
    settings, interaction = small_settings(name, share=share), interaction_of(name)
    model = fresh_model(small, interaction, settings, seed=3)
    wire = to_wire(model.state(), small.train, interaction, settings)
    specs = model_tensors(settings, len(small.entities), len(small.relations))
    arrived, _ = decode(encode(wire), specs)
    own = own_rows(model.state(), settings)
    assert arrived.keys() == specs.keys()
    assert own.keys() == {"entities": {"relations"}, "relations": {"entities"}, "both": set()}[share]
    again = Model.of_state(interaction, from_wire(arrived, interaction) | own)
    np.testing.assert_array_equal(again.rank_scores(ASKED), model.rank_scores(ASKED))


def test_a_relation_s_row_on_the_wire_holds_both_of_its_vectors(small: Graph) -> None:
    settings, interaction = small_settings("distmult", share="relations"), interaction_of("distmult")
    state = fresh_model(small, interaction, settings, seed=3).state()
    row = to_wire(state, small.train, interaction, settings)["relations"][1]
    np.testing.assert_array_equal(row, np.concatenate([state["relations"][1], state["relations"][1 + 3]]))


@pytest.mark.parametrize(
    ("name", "width", "bound"), [("transe", 16, 0.05), ("rotate", 8, math.pi / RADIANS), ("complex", 32, 0.05)]
)
def test_a_preset_says_what_form_relations_have(name: InteractionName, width: int, bound: float) -> None:
    settings = small_settings(name, share="both")
    assert (settings.relation_dim, settings.relation_init) == (width, bound)
    assert small_settings(name).relation_dim is None


@pytest.mark.parametrize("share", ["entities", "relations"])
def test_rows_that_stay_begin_at_random_by_seed_and_name(small: Graph, share: Share) -> None:
    def fresh(settings: TrainingSettings, name: str) -> np.ndarray:
        (rows,) = fresh_rows(small, interaction_of("transe"), settings, name).values()
        return rows

    settings = small_settings("transe", share=share, seed=4)
    rows = fresh(settings, "clinic")
    assert rows.shape == (len(small.relations if share == "entities" else small.entities), 16)
    assert 0.04 < np.abs(rows).max() <= 0.05
    np.testing.assert_array_equal(rows, fresh(settings, "clinic"))
    assert not np.array_equal(rows, fresh(settings, "hospital"))
    assert not np.array_equal(rows, fresh(small_settings("transe", share=share, seed=5), "clinic"))


def test_frequencies_count_the_triples_that_an_entity_stands_in() -> None:
    train = np.array([[0, 0, 1], [1, 0, 2], [1, 1, 1], [0, 1, 1]])
    counted = frequencies(train, 4)
    assert counted.dtype == np.int32
    assert counted.tolist() == [2, 4, 1, 0]


def test_frequencies_go_along_where_the_training_weighs_by_them(small: Graph) -> None:
    settings = small_settings("transe", aggregation={"strategy": "frequency"})
    interaction = interaction_of("transe")
    state = fresh_model(small, interaction, settings, seed=0).state()
    wire = to_wire(state, small.train, interaction, settings)
    arrived, _ = decode(encode(wire), update_tensors(settings, len(small.entities)))
    assert arrived["frequencies"].sum() == sum(1 if h == t else 2 for h, _, t in small.train)


@pytest.mark.parametrize("told", SHARES)
@pytest.mark.parametrize("share", SHARES)
def test_a_training_that_shares_more_than_the_client_told_is_refused(told: Share, share: Share) -> None:
    settings = small_settings("transe", share=share)
    if told in (share, "both"):
        require_told(settings, told)
        return
    with pytest.raises(NotShared, match=f"--share {share}") as refusal:
        require_told(settings, told)
    assert f"to share {told} only" in str(refusal.value)


IDENTITY = ScorerIdentity(model="m", revision="r", dtype="float32", query_hash="q", hidden=HIDDEN)
LLAMA = ["adapter.entity", "adapter.relation", "adapter.state"]


def llama_settings(**local: object) -> TrainingSettings:
    return training_settings("llama", TinyEncoder(1), IDENTITY, dim=8, local=LocalSettings.model_validate(local))


def test_a_local_adapter_stays_with_the_relations(small: Graph) -> None:
    settings = llama_settings(adapter="local")
    interaction = interaction_of("llama", TinyEncoder(1), settings.local)
    assert settings.dense == {}
    state = fresh_model(small, interaction, settings, seed=3).state()
    own = own_rows(state, settings)
    assert own.keys() == {"relations", *(f"dense.{name}" for name in LLAMA)}
    wire = to_wire(state, small.train, interaction, settings)
    assert wire.keys() == model_tensors(settings, len(small.entities)).keys() == {"entities"}
    again = Model.of_state(interaction, from_wire(wire, interaction) | own)
    np.testing.assert_array_equal(again.rank_scores(ASKED), Model.of_state(interaction, state).rank_scores(ASKED))


def test_a_local_adapter_begins_at_random_by_seed_and_name(small: Graph) -> None:
    settings = llama_settings(adapter="local")
    interaction = interaction_of("llama", TinyEncoder(1), settings.local)
    rows, again, other = (fresh_rows(small, interaction, settings, name) for name in ("clinic", "clinic", "hospital"))
    for name, dense in interaction.dense(8, settings.local).items():
        array = rows[f"dense.{name}"]
        assert 0.8 * dense.init < np.abs(array).max() <= dense.init
        np.testing.assert_array_equal(array, again[f"dense.{name}"])
        assert not np.array_equal(array, other[f"dense.{name}"])


@pytest.mark.parametrize(
    ("local", "shared"),
    [
        ({}, LLAMA),
        ({"adapter": "none"}, []),
        ({"adapter": "local"}, []),
        ({"texts": "names", "vectors": False}, LLAMA[2:]),
        ({"readout": "verdict"}, LLAMA[:2]),
        ({"layer": "none"}, LLAMA),
    ],
)
def test_what_of_an_adapter_all_clients_share(local: dict[str, object], shared: list[str]) -> None:
    settings = LocalSettings.model_validate(local)
    assert [*shared_dense(interaction_of("llama", TinyEncoder(1), settings), 8, settings)] == shared


def test_a_local_adapter_is_nothing_to_a_network(small: Graph) -> None:
    local = LocalSettings(adapter="local")
    interaction = interaction_of("mlp", local=local)
    assert shared_dense(interaction, 8, local) == interaction.dense(8, local)


@pytest.mark.parametrize("agreed", ["none", "names", "descriptions"])
@pytest.mark.parametrize("texts", ["none", "anonymised", "names", "descriptions"])
def test_a_training_that_says_more_than_the_client_agreed_to_is_refused(agreed: str, texts: str) -> None:
    settings = llama_settings(texts=texts)
    more = {"none": 0, "anonymised": 0, "names": 1, "descriptions": 2}
    if more[texts] <= more[agreed]:
        require_texts(settings, agreed)
    else:
        with pytest.raises(NotShared, match=f"agreed to {agreed};.*--texts {texts}"):
            require_texts(settings, agreed)
    require_texts(small_settings("transe", local={"texts": texts}), "none")
