from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from protocol.info import combined_hash
from protocol.messages import HEAD, TAIL, Readout
from services.scorer.templates import (
    ASKS,
    DEFAULTS,
    SLOTS,
    BadTemplate,
    Template,
    is_shipped,
    load,
)

TEXT = "{head} {relation} {tail} or:"


def template(text: str = TEXT, **given: object) -> Template:
    return Template(**({"text": text, "readouts": ["verdict"]} | given))


def write(folder: Path, name: str, text: str = TEXT, more: str = "") -> Path:
    file = folder / name
    file.write_text(f'text = """\n{text}"""\nreadouts = ["verdict"]\n{more}', encoding="utf-8")
    return file


def test_every_readout_has_a_template_for_each_side_that_asks_for_it() -> None:
    templates = load()
    assert set(DEFAULTS) == {(readout, side) for readout in get_args(Readout) for side in (TAIL, HEAD)}
    for (readout, side), name in DEFAULTS.items():
        assert readout in templates[name].readouts
        assert templates[name].asks == ASKS[side]


def test_templates_that_ship_say_before_each_slot_which_it_is() -> None:
    for name, shipped in load().items():
        assert is_shipped(name)
        assert sorted(shipped.parts[1::2]) == sorted(SLOTS)
        for words, slot in zip(shipped.parts[::2], shipped.parts[1::2], strict=False):
            if slot == shipped.asks and shipped.readouts == ["state"]:
                assert not words  # read at the given entity's last vector, which words would dilute
            else:
                assert name == "short" or words.splitlines()[-1].strip() == f"{slot}:"


def test_a_text_is_words_and_slots_in_turn() -> None:
    assert template("\nof {tail} a  {head},{relation} or: ").parts == [
        "of ",
        "tail",
        " a  ",
        "head",
        ",",
        "relation",
        " or:",
    ]
    assert template().parts == ["", "head", " ", "relation", " ", "tail", " or:"]
    assert template("{head} {relation} {{x} {tail} {y} or:").parts[4] == " {{x} "  # other braces are words


def test_the_last_slot_is_asked_for() -> None:
    assert template().asks == "tail"
    assert template("{tail} {relation} {head} or:").asks == "head"
    assert template("{tail} {head} {relation}", readouts=["likelihood"]).asks == "relation"


def test_labels_are_yes_and_no_unless_others_are_given() -> None:
    assert template().labels == ("yes", "no")
    assert template(labels=["true", "false"]).labels == ("true", "false")


REFUSED = [
    pytest.param(
        dict(text="{head} {tail} or:"), "holds {relation} 0 times; each slot stands in it once", id="a slot lacks"
    ),
    pytest.param(dict(text="{head} {head} {relation} {tail} or:"), "holds {head} 2 times", id="a slot stands twice"),
    pytest.param(dict(text="{Head} {relation} {tail} or:"), "holds {head} 0 times", id="a misspelt slot"),
    pytest.param(dict(text="{head} {relation} {tail}"), "words must ask for the answer", id="verdict without words"),
    pytest.param(
        dict(text="{head} {relation} {tail} \n"), "words must ask for the answer", id="only blanks at the end"
    ),
    pytest.param(
        dict(text="{head} {relation} {tail}", readouts=["state", "number"]), "words must ask", id="number without words"
    ),
    pytest.param(
        dict(text="{head} {tail} {relation}", readouts=["state"]),
        "the head or the tail stands last",
        id="state of a relation",
    ),
    pytest.param(dict(text=TEXT, labels=["no", "no"]), "labels: the two are equal", id="equal labels"),
    pytest.param(dict(text=TEXT, labels=["yes"]), "labels", id="one label"),
    pytest.param(dict(text=TEXT, labels=["yes", "no", "or"]), "labels", id="three labels"),
    pytest.param(dict(text=TEXT, labels=["yes", ""]), "labels", id="an empty label"),
    pytest.param(dict(text=""), "text", id="no text"),
    pytest.param(dict(text=TEXT, readouts=[]), "readouts", id="no readout"),
    pytest.param(dict(text=TEXT, readouts=["verdicts"]), "readouts", id="an unknown readout"),
    pytest.param(dict(text=TEXT, label=["a", "b"]), "label", id="an unknown key"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_a_template_that_cannot_be_read_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Template(**({"readouts": ["verdict"]} | given))
    [error] = refused.value.errors()
    assert message in ": ".join([*map(str, error["loc"]), error["msg"]])


def test_words_after_the_last_slot_are_only_needed_for_answers() -> None:
    assert template("{head} {relation} {tail}", readouts=["state", "likelihood"]).parts[-1] == ""


def test_a_hash_depends_on_text_and_labels_only() -> None:
    first = template()
    assert first.hash == template(readouts=["state", "number"]).hash == template(f"\n{TEXT} \n").hash
    others = [template(TEXT + "?"), template(labels=("no", "yes")), template(labels=("yes", "or"))]
    assert len({first.hash, *(other.hash for other in others)}) == 4
    assert len(first.hash) == 64
    # Text and labels are told apart, also where one could run into the other.
    assert template(labels=("a", "bc")).hash != template(labels=("ab", "c")).hash


def test_two_templates_have_a_hash_that_knows_their_order() -> None:
    tail, head = load()["tail"].hash, load()["head"].hash
    assert combined_hash([tail, head]) == combined_hash(iter([tail, head]))
    assert len({combined_hash([tail, head]), combined_hash([head, tail]), combined_hash([tail]), tail}) == 4


def test_the_info_of_a_template_is_what_it_does() -> None:
    info = template(f"\n{TEXT}", labels=("or", "no")).info
    assert info.model_dump() == {
        "text": TEXT,
        "hash": template(labels=("or", "no")).hash,
        "asks": "tail",
        "readouts": ["verdict"],
        "labels": ["or", "no"],
    }


def test_a_folders_templates_join_those_that_ship(tmp_path: Path) -> None:
    write(tmp_path, "own.toml", more='labels = ["or", "no"]')
    write(tmp_path, "other-1_b.toml")
    (tmp_path / "notes.txt").write_text("not a template")
    found = load(tmp_path)
    assert set(found) - set(load()) == {"own", "other-1_b"}
    assert found["own"].hash == template(TEXT, labels=("or", "no")).hash
    assert not is_shipped("own")
    assert {name: found[name] for name in load()} == load()


def test_a_single_file_is_a_template_too(tmp_path: Path) -> None:
    write(tmp_path, "another.toml")
    assert set(load(write(tmp_path, "own.toml"))) - set(load()) == {"own"}


def test_a_path_that_holds_no_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"nowhere: no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadTemplate, match=r"no \*\.toml file in it"):
        load(tmp_path)


def test_a_name_that_ships_is_taken(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"triple\.toml: there is a template 'triple' already; give the file another"):
        load(write(tmp_path, "triple.toml"))


@pytest.mark.parametrize("name", ["Own", "1own", "_own", "own template", "own.old", "\u00f6wn", "a" * 65])
def test_a_name_that_does_not_fit_a_request_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadTemplate, match="name the file with lower-case letters"):
        load(write(tmp_path, f"{name}.toml"))


def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path: Path) -> None:
    unknown = write(tmp_path, "own.toml", more='label = ["a", "b"]')
    with pytest.raises(BadTemplate, match=r"own\.toml: label: Extra inputs are not permitted"):
        load(unknown)
    with pytest.raises(BadTemplate, match=r"own\.toml: text: holds \{tail\} 0 times; each slot stands in it once"):
        load(write(tmp_path, "own.toml", "{head} {relation} or:"))
    with pytest.raises(BadTemplate, match=r"own\.toml: labels: the two are equal"):
        load(write(tmp_path, "own.toml", more='labels = ["a", "a"]'))
    (tmp_path / "own.toml").write_text('text = "{head}')
    with pytest.raises(BadTemplate, match=r"own\.toml: cannot be read as TOML: Unterminated string"):
        load(tmp_path)
    (tmp_path / "own.toml").write_bytes(b'text = "\xff"')
    with pytest.raises(BadTemplate, match=r"own\.toml: cannot be read as TOML: "):
        load(tmp_path)
