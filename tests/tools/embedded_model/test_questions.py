import random
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from services.scorer.templates import load
from tools.embedded_model import corpus
from tools.embedded_model.questions import DESCRIBES, MENTIONS, Questions, Spans

from .corpora import entries

TEMPLATES = load()
WEIGHT = 10.0
SHARED = Path(__file__).parents[4] / "shared" / "data"
GRAPHS = ("umls", "codex-s", "fb15k237.tar.gz")


def asked(count: int, given: list[corpus.Entry] | None = None) -> list[Spans]:
    questions = Questions(given or entries(), given or entries(), TEMPLATES, WEIGHT)
    random_ = random.Random(1)
    return [questions.ask(random_) for _ in range(count)]


def whole(spans: Spans) -> str:
    return "".join(text for text, _ in spans)


def answers(spans: Spans) -> list[str]:
    return [text for text, weight in spans if weight == WEIGHT]


def slot(text: str, name: str) -> str:
    """What stands in a slot of a template with one line a slot; the last, where it is offered again and again."""
    (found,) = {line.split(": ", 1)[1] for line in text.splitlines() if line.startswith(f"{name}: ")} or {""}
    return found


def test_prompts_begin_in_the_words_of_the_shipped_templates() -> None:
    beginnings = {template.parts[0].strip() or template.parts[1] for template in TEMPLATES.values()}
    for spans in asked(200):
        first = whole(spans)
        assert any(first.startswith(words) for words in beginnings) or ", yes or no:" in first


def test_half_of_the_answers_are_yes() -> None:
    said = Counter(answer for spans in asked(2_000) for answer in answers(spans))
    assert 0.45 < said[" yes"] / (said[" yes"] + said[" no"]) < 0.55
    assert {f" {digit}" for digit in range(10)} <= said.keys()


def test_yes_is_answered_where_a_text_mentions_the_title_or_is_about_it() -> None:
    told = {}
    for entry in entries():
        told[entry.title] = told.get(entry.title, "") + " " + entry.text
    checked = Counter()
    for spans in asked(2_000):
        text = whole(spans)
        if not text.startswith("Is this triple true, yes or no?\nhead: "):
            continue
        head = slot(text, "head").split(",")[0]
        lines = text.splitlines()
        for tail, answer in zip(lines[3::2], lines[4::2], strict=True):
            title, said = tail.removeprefix("tail: "), answer.removeprefix("answer: ")
            name = title.split(",")[0]
            if name in told:  # a title is offered, perhaps with a text
                assert (name in told[head]) == (said == "yes")
            elif said == "yes":
                assert title in told[head]
            checked[said] += 1
    assert min(checked["yes"], checked["no"]) > 500


def test_only_answers_and_what_is_asked_for_are_learnt() -> None:
    for spans in asked(500):
        text = whole(spans)
        learnt = [(piece, weight) for piece, weight in spans if weight]
        if answers(spans):
            assert all(piece in {" yes", " no", *(f" {digit}" for digit in range(10))} for piece, _ in learnt)
        else:
            ((piece, weight),) = learnt
            assert weight == 1
            assert text.endswith(piece)


def test_the_same_seed_asks_the_same() -> None:
    assert asked(50) == asked(50)


WORDNET = (
    "also see,derivationally related form,has part,hypernym,instance hypernym,member meronym,member of domain region,"
    "member of domain usage,similar to,synset domain topic of,verb group"
)


def relation_names() -> set[str]:
    """Names of all relations of WordNet and of the graphs that the embedded model is measured on."""
    names = set(WORDNET.split(","))
    for graph in GRAPHS:
        if (SHARED / graph).is_dir():
            lines = (SHARED / graph / "relations.tsv").read_text(encoding="utf-8").splitlines()
        else:
            with tarfile.open(SHARED / graph) as archive:
                (member,) = [m for m in archive.getmembers() if m.name.endswith("relations.tsv")]
                lines = archive.extractfile(member).read().decode().splitlines()  # type: ignore[union-attr]
        names |= {column.lower().replace("_", " ") for line in lines for column in line.split("\t")[:2]}
    return names


def test_no_phrase_is_the_name_of_a_relation_of_wordnet() -> None:
    for phrase in (*MENTIONS, *DESCRIBES):
        assert phrase not in WORDNET.split(",")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the graphs and the corpus are not here")
def test_no_relation_of_a_known_graph_is_named() -> None:
    """And so none of their triples is told. Two words that are drawn could only meet in one by chance."""
    known = relation_names()
    assert known.isdisjoint((*MENTIONS, *DESCRIBES))
    train, _ = corpus.split(corpus.read(SHARED / "corpus.tar.gz"))
    questions = Questions(train, train, TEMPLATES, WEIGHT)
    random_ = random.Random(2)
    relations = Counter(questions._relation(random_, MENTIONS) for _ in range(50_000))
    assert len(relations) > 5_000
    assert known.isdisjoint(name.lower() for name in relations)
    # NELL's relations are one word, as `concept:athleteplaysforteam`.
    assert {name for name in relations if " " not in name} == {"mentions"}
