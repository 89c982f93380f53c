from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from protocol.messages import HEAD, TAIL
from trainer.graph import Graph
from trainer.judge import TEMPLATES, Judge, JudgeReadout, Words
from trainer.local import unheard
from trainer.ranking import Asked, known_answers
from trainer.remote_model import WrongScorer
from trainer.shortlists import Shortlists
from trainer.texts import Text, Texts

from .support import random_graph
from .wordy_scorer import LIMITS, WordyScorer, score_of, wordy_scorer

TEXTS = Texts({"e001": Text("one", "The first."), "e002": Text("two", None)}, {"r0": Text("is near", "In space.")})


@pytest.fixture
def scorer() -> Iterator[WordyScorer]:
    with wordy_scorer() as served:
        yield served


@pytest.fixture(scope="module")
def graph() -> Graph:
    return random_graph(4, entities=20, triples=400)


def lists_of(graph: Graph, split: str = "test", seed: int = 0) -> Shortlists:
    shape = (2, len(graph.relations), len(graph.entities), len(graph.entities))
    table = np.random.default_rng(seed).standard_normal(shape)
    asked = Asked.of(graph.triples[split], known_answers(graph, split))
    return Shortlists.of(asked, lambda q: table[q.side, q.relation, q.given], 6)


def judge_of(
    scorer: WordyScorer, graph: Graph, cache: Path, readout: JudgeReadout = "verdict", texts: Texts = TEXTS
) -> Judge:
    return Judge(scorer.service, readout, Words.of(texts, graph, "descriptions"), cache, unheard)


def expected(graph: Graph, lists: Shortlists, readout: JudgeReadout, texts: Texts = TEXTS) -> np.ndarray:
    """What the scorer says of every member, triple by triple."""
    entities, relations = texts.of(graph.entities, graph.relations)
    scores = np.zeros(lists.members.shape)
    for i, j in zip(*np.nonzero(lists.filled), strict=True):
        side, given = lists.queries.side[i], entities[lists.queries.given[i]]
        member, relation = entities[lists.members[i, j]], relations[lists.queries.relation[i]]
        head, tail = (given, member) if side == TAIL else (member, given)
        words = [word for text in (head, relation, tail) for word in (text.label, text.description)]
        scores[i, j] = score_of(TEMPLATES[readout][side], *words)
    return scores


@pytest.mark.parametrize("readout", ["verdict", "likelihood"])
def test_every_member_is_scored_in_words_by_the_template_of_its_side(
    scorer: WordyScorer, graph: Graph, tmp_path: Path, readout: JudgeReadout
) -> None:
    lists = lists_of(graph)
    judge = judge_of(scorer, graph, tmp_path, readout)
    found = judge.scores(lists)
    np.testing.assert_allclose(found[lists.filled], expected(graph, lists, readout)[lists.filled], atol=1e-6)
    assert {request.template for request in scorer.asked} == set(TEMPLATES[readout].values())
    assert set(lists.queries.side) == {TAIL, HEAD}
    count = sum(len(request.triples) for request in scorer.asked)
    cost = judge.cost
    assert (cost.scored, cost.kept, cost.tokens, cost.shared_tokens) == (count, 0, 10 * count, 4 * count)


def test_names_alone_go_along_unless_descriptions_are_wanted(graph: Graph) -> None:
    alone, described = Words.of(TEXTS, graph, "names"), Words.of(TEXTS, graph, "descriptions")
    one = graph.entities.index("e001")
    assert (alone.entities[one].name, alone.entities[one].description) == ("one", None)
    assert described.entities[one].description == "The first."
    assert described.entities[graph.entities.index("e003")].name == "e003"
    assert alone.digest != described.digest


def test_what_was_scored_once_is_not_asked_again_by_whichever_model(
    scorer: WordyScorer, graph: Graph, tmp_path: Path
) -> None:
    first, other = lists_of(graph), lists_of(graph, seed=1)
    scores = judge_of(scorer, graph, tmp_path).scores(first)
    asked = len(scorer.asked)
    again = judge_of(scorer, graph, tmp_path)
    np.testing.assert_array_equal(again.scores(first), scores)
    assert len(scorer.asked) == asked
    assert (again.cost.scored, again.cost.tokens) == (0, 0)
    assert again.cost.kept > 0
    found = again.scores(other)
    np.testing.assert_allclose(found[other.filled], expected(graph, other, "verdict")[other.filled], atol=1e-6)
    assert 0 < again.cost.scored < other.filled.sum()


def test_scores_of_other_weights_readouts_or_words_are_others(
    scorer: WordyScorer, graph: Graph, tmp_path: Path
) -> None:
    lists = lists_of(graph)
    judge_of(scorer, graph, tmp_path).scores(lists)
    named = Texts({"e001": Text("another")}, {})
    for readout, texts, revision in (("likelihood", TEXTS, "r1"), ("verdict", named, "r1"), ("verdict", TEXTS, "r2")):
        scorer.revision = revision
        judge = judge_of(scorer, graph, tmp_path, readout, texts)  # type: ignore[arg-type]
        found = judge.scores(lists)[lists.filled]
        np.testing.assert_allclose(found, expected(graph, lists, readout, texts)[lists.filled], atol=1e-6)  # type: ignore[arg-type]
        assert judge.cost.kept == 0


def test_many_triples_are_asked_within_the_limits(graph: Graph, tmp_path: Path) -> None:
    lists = lists_of(graph)
    limits = LIMITS.model_copy(update={"max_call_tokens": 64 * 7, "max_body_bytes": 1 << 20})
    with wordy_scorer(limits=limits) as scorer:
        judge = judge_of(scorer, graph, tmp_path)
        found = judge.scores(lists)
    assert {len(request.triples) for request in scorer.asked} >= {7}
    assert max(len(request.triples) for request in scorer.asked) == 7
    np.testing.assert_allclose(found[lists.filled], expected(graph, lists, "verdict")[lists.filled], atol=1e-6)


def test_a_body_is_within_the_limit_whatever_the_texts(graph: Graph, tmp_path: Path) -> None:
    texts = Texts({name: Text(name, "ü" * 3_000) for name in graph.entities}, {})
    limits = LIMITS.model_copy(update={"max_body_bytes": 100_000})
    with wordy_scorer(limits=limits) as scorer:
        judge_of(scorer, graph, tmp_path, texts=texts).scores(lists_of(graph))
    sizes = [len(body) for _, path, _, body in scorer.server.seen if path == "/score"]
    assert 20_000 < max(sizes) <= 100_000


def test_an_answer_that_cannot_be_read_stands_with_the_last_of_its_list(graph: Graph, tmp_path: Path) -> None:
    lists = lists_of(graph)
    with wordy_scorer(unread=("two",)) as scorer:
        judge = judge_of(scorer, graph, tmp_path)
        found = judge.scores(lists)
        two = graph.entities.index("e002")
        whole, wholly = expected(graph, lists, "verdict"), lists.queries.given == two
        unread = (lists.members == two) | (wholly[:, None] & lists.filled)
        lowest = np.where(lists.filled & ~unread, whole, np.inf).min(axis=1)
        assert (unread.any(axis=1) & ~wholly).any()
        for row in range(len(found)):
            last = 0.0 if np.isinf(lowest[row]) else lowest[row]  # a list that is not read at all is all level
            wanted = np.where(unread[row], last, whole[row])
            np.testing.assert_allclose(found[row][lists.filled[row]], wanted[lists.filled[row]], atol=1e-6)
        assert judge.cost.unread > 0
        again = judge_of(scorer, graph, tmp_path)
        np.testing.assert_array_equal(again.scores(lists), found)
        assert again.cost.scored == again.cost.unread == judge.cost.unread


def test_a_scorer_that_changes_on_the_way_is_refused_and_what_it_scored_is_kept(
    scorer: WordyScorer, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.judge.TRIPLES_A_CALL", 10)
    judge = judge_of(scorer, graph, tmp_path)
    plain = scorer.respond

    def respond(path: str, body: bytes) -> tuple[int, bytes]:
        if len(scorer.asked) == 3:
            scorer.revision = "r2"
        return plain(path, body)

    scorer.server.respond = respond
    with pytest.raises(WrongScorer, match="another model or template"):
        judge.scores(lists_of(graph))
    scorer.server.respond, scorer.revision = plain, "r1"
    again = judge_of(scorer, graph, tmp_path)
    again.scores(lists_of(graph))
    assert again.cost.kept == 30


@pytest.mark.parametrize("scores", ["[1.0]", "[%s]"])
def test_an_answer_of_another_form_is_refused(scorer: WordyScorer, graph: Graph, tmp_path: Path, scores: str) -> None:
    plain = scorer.respond

    def respond(path: str, body: bytes) -> tuple[int, bytes]:
        status, reply = plain(path, body)
        if path == "/score":
            head, _, rest = reply.partition(b'"scores":[')
            numbers, _, rest = rest.partition(b"]")
            wrong = numbers.replace(numbers.split(b",")[0], b"1e999", 1) if "%s" in scores else b"1.0"
            reply = head + b'"scores":[' + wrong + b"]" + rest
        return status, reply

    judge = judge_of(scorer, graph, tmp_path)
    scorer.server.respond = respond
    with pytest.raises(WrongScorer, match=r"did not answer with \d+ finite scores"):
        judge.scores(lists_of(graph))


def test_a_scorer_without_the_readout_is_refused_at_once(
    scorer: WordyScorer, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TEMPLATES["verdict"], HEAD)
    monkeypatch.setitem(TEMPLATES["verdict"], HEAD, "gone")
    with pytest.raises(WrongScorer, match="no readout verdict with the template 'gone'"):
        judge_of(scorer, graph, tmp_path)
