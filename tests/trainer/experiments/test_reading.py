import re
from pathlib import Path

import pytest

from protocol.trainings import LocalSettings, TrainingSettings
from services.scorer.settings import Settings as ScorerSettings
from trainer.experiments.reading import read_experiment
from trainer.experiments.schema import SCORER_SETTINGS, Experiment
from trainer.inputs import UsageError

ROOT = Path(__file__).parents[3]
GOOD = """\
name: one
data:
  a: {folder: d}
variants:
  t:
    interaction: transe
"""


def read(tmp_path: Path, text: str) -> Experiment:
    file = tmp_path / "one.yaml"
    file.write_text(text)
    return read_experiment(file)


@pytest.mark.parametrize("file", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_that_ship_can_be_read(file: Path) -> None:
    assert read_experiment(file).variants


def test_the_page_s_example_can_be_read_and_every_key_is_explained(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert read(tmp_path, example).variant("middle-names").settings()["local"]["texts"] == "names"
    keys = page.split("## The file")[1].split("```yaml")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", keys, re.MULTILINE)) == set(Experiment.model_fields)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("    dims: 3\n", ":7: variants.t.dims: there is no such setting"),
        ("    seed: 3\n", ":7: variants.t.seed: there is no such setting, or the experiment itself decides it"),
        ("    dim: 0\n", ":7: variants.t.dim: Input should be greater than or equal to 1"),
        ("    local:\n      dropout: 1.5\n", ":8: variants.t.local.dropout: Input should be less than 1"),
        ("    local:\n      layer: first\n", ":8: variants.t.local.layer: Input should be"),
        ("    aggregation: {strategi: median}\n", ":7: variants.t.aggregation.strategi: there is no such"),
        ("    local: {texts: everything}\n", ":7: variants.t.local.texts: Input should be"),
        ("  u: {dim: 8}\n", "variants.u.interaction: is missing"),
        ("  t: {interaction: rotate}\n", ":7: t: stands here a second time"),
        ("  u/v: {interaction: rotate}\n", ":7: variants.u/v: String should match"),
        ("modes: [federatoin]\n", ":7: modes.0: Input should be"),
        ("seeds: [1, 1]\n", "seeds: one of them stands twice"),
        ("scorer: {key_file: k}\n", ":7: scorer: `key_file` holds the key"),
        ("scorer: {environment: {MODEL: random}}\n", ":7: scorer.environment.MODEL: the scorer has no such setting"),
        ("scorer: {environment: {SCORER_MODLE: random}}\n", ":7: scorer.environment.SCORER_MODLE: the scorer has no"),
        ("scorer: http://127.0.0.1:8000\n", ":7: scorer: should hold settings, as `name: value`"),
        ("    local: [dropout]\n", ":7: variants.t.local: should hold settings, as `name: value`"),
        ("  u:\n", ":7: variants.u: should hold settings, as `name: value`"),
        ("track: \x01\n", ": is not YAML (unacceptable character #x0001"),
        ("track: [tensorbord]\n", ":7: track.0: Input should be"),
        ("data: {b: {dataset: umls}}\n", ":7: data: stands here a second time"),
        ("    rounds: [\n", ": is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, GOOD + more)
    assert str(refusal.value).startswith(str(tmp_path / "one.yaml"))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["name: 2026-13-01\n", "variants: &v {a: *v}\n"])
def test_yaml_that_its_reader_trips_over(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"one\.yaml: is not YAML"):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["", "- a\n", "a string"])
def test_a_file_of_something_else_is_told_what_it_should_hold(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="should hold `name`, `data` and `variants`"):
        read(tmp_path, text)


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not YAML"):
        read(tmp_path, GOOD + "track: !!python/object/apply:os.getcwd []\n")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("{}", "give either `folder`"),
        ("{folder: d, dataset: umls, split: {clients: 2}}", "give either `folder`"),
        ("{dataset: umls}", "`dataset` and `split` go together"),
        ("{folder: d, split: {clients: 2}}", "`dataset` and `split` go together"),
    ],
)
def test_data_are_folders_or_split(tmp_path: Path, choice: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, GOOD.replace("{folder: d}", choice))


def test_variants_stand_over_defaults_setting_by_setting(tmp_path: Path) -> None:
    defaults = "defaults:\n  rounds: 7\n  local: {dropout: 0.1, batch_size: 9}\n"
    read_ = read(tmp_path, GOOD + "    local: {dropout: 1e-1}\n    rounds: 3\n" + defaults)
    assert read_.variant("t").interaction == "transe"
    assert read_.variant("t").settings() == {"rounds": 3, "local": {"dropout": 0.1, "batch_size": 9}}


def test_null_takes_back_what_the_defaults_say(tmp_path: Path) -> None:
    defaults = "defaults:\n  rounds: 7\n  local: {templates: [tail, head], dropout: 0.1}\n  aggregation: {tau: 0.5}\n"
    given = "    rounds: null\n    local: {templates: null}\n    aggregation: null\n"
    assert read(tmp_path, GOOD + given + defaults).variant("t").settings() == {"local": {"dropout": 0.1}}


def test_every_setting_of_a_training_can_be_given(tmp_path: Path) -> None:
    decided = {"interaction", "dense", "scorer", "seed", "clients"}
    variant = type(read(tmp_path, GOOD).variants["t"])
    assert set(variant.model_fields) == (set(TrainingSettings.model_fields) - decided) | {
        "interaction",
        "preset",
        "device",
    }
    local = {name: field.get_default() for name, field in LocalSettings.model_fields.items()}
    assert variant.model_validate({"local": local}).model_dump(exclude_unset=True) == {"local": local}


def test_a_scorer_s_settings_are_written_as_an_environment_holds_them(tmp_path: Path) -> None:
    given = "scorer: {environment: {SCORER_MERGE: true, SCORER_WORKERS: 2, SCORER_MODEL: random}}\n"
    assert read(tmp_path, GOOD + given).scorer.variables() == {
        "SCORER_MERGE": "true",
        "SCORER_WORKERS": "2",
        "SCORER_MODEL": "random",
    }


def test_the_scorer_s_settings_are_known() -> None:
    assert set(SCORER_SETTINGS.split()) == set(ScorerSettings.model_fields) - {"api_key", "api_key_file"}
