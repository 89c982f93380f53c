import math

import numpy as np
import pytest

from protocol.tensors import decode, encode
from protocol.trainings import InteractionName, Share, TrainingSettings, model_tensors, update_tensors
from trainer.graph import Graph
from trainer.interactions import interaction_of
from trainer.interactions.rotate import RADIANS
from trainer.local import fresh_model
from trainer.model import Model
from trainer.sharing import NotShared, frequencies, fresh_rows, from_wire, own_rows, require_told, to_wire

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
