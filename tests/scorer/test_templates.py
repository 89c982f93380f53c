import hashlib

from services.scorer.templates import SLOTS, Template, query_hash, shipped


def test_slots_stand_in_their_order() -> None:
    order = {name: template.parts[1::2] for name, template in shipped().items()}
    assert order == {"triple": list(SLOTS), "tail": ["head", "relation"], "head": ["relation", "tail"]}


def test_a_template_says_which_slot_is_which() -> None:
    for template in shipped().values():
        for words, slot in zip(template.parts[::2], template.parts[1::2], strict=False):
            assert words.splitlines()[-1].strip() == f"{slot}:"


def test_other_words_have_another_hash() -> None:
    templates = shipped()
    assert templates["tail"].hash == hashlib.sha256(templates["tail"].text.encode()).hexdigest()
    changed = templates | {"head": Template("head", "state", "given {relation} and {tail}")}
    assert query_hash(changed) != query_hash(templates)
    assert query_hash(templates | {"triple": changed["head"]}) == query_hash(templates)
