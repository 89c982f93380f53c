"""A saved model is used as it was trained: with the same scorer, which is told the same."""

import re
from pathlib import Path

import pytest

from tests.system.conftest import System


def mrr(log: Path) -> str:
    found = re.search(r"(?:isolation|both)\W+(0\.\d{3})", log.read_text())
    assert found, log.read_text()
    return found[1]


@pytest.mark.parametrize("form", [["--texts", "names"], ["--texts", "anonymised", "--no-vectors"]], ids=" ".join)
def test_a_model_is_evaluated_with_the_words_that_it_was_trained_with(system: System, form: list[str]) -> None:
    scorer = ["--scorer", system.start_scorer()]
    data, out = str(system.folder / "data" / "client_0"), str(system.folder / "model")
    options = ["--interaction", "llama", *form, "--rounds", "6", "--local-epochs", "1", "--out", out, *scorer]
    trained = system.processes.start("train", ["trainer", "train", data, *options])
    system.wait([trained])
    evaluated = system.processes.start("evaluate", ["trainer", "evaluate", out, "--data", data, *scorer])
    predict = ["trainer", "predict", out, "--relation", "causes", "--head", "virus", "--top", "3", *scorer]
    predicted = system.processes.start("predict", predict)
    system.wait([evaluated, predicted])
    assert mrr(trained.log) == mrr(evaluated.log)
    assert "(virus, causes, ?)" in predicted.log.read_text()
    alone = system.processes.start("alone", ["trainer", "evaluate", out, "--data", data])
    assert alone.process.wait(60) == 2
    assert "needs a scorer" in alone.log.read_text()
    system.processes.children.remove(alone)
