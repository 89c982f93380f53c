"""A KGE and a LLaMA together, as a researcher has them: shortlists re-ranked in words, and two models fused."""

import json
from pathlib import Path
from typing import Any

from tests.system.conftest import System

QUICK = ("--rounds", "1", "--local-epochs", "2", "--dim", "32")


def run(system: System, name: str, *arguments: str) -> Path:
    child = system.processes.start(name, ["trainer", *arguments])
    system.wait([child])
    return child.log


def result_of(log: Path) -> Any:
    """The JSON in a log, which has what went to standard error as well."""
    text = log.read_text()
    return json.loads(text[text.index("{\n") : text.rindex("}") + 1])


def test_a_kge_is_reranked_by_the_scorer_and_fused_with_a_llama(system: System) -> None:
    scorer = ["--scorer", system.start_scorer()]
    data = ["--data", str(system.folder / "data" / "client_0")]
    kge, llama, both = (str(system.folder / name) for name in ("kge", "llama", "both"))
    graph = str(system.folder / "data" / "client_0")
    run(system, "kge", "train", graph, *QUICK, "--out", kge)
    run(system, "llama", "train", graph, "--interaction", "llama", *QUICK, "--out", llama, *scorer)

    written = []
    kept = str(system.folder / "kept")
    for readout in ("verdict", "likelihood"):
        options = ["--rerank", readout, "--shortlist", "5", "--limit", "12", "--kept", kept, "--json"]
        written.append(result_of(run(system, f"rerank-{len(written)}", "evaluate", kge, *data, *options, *scorer)))
    verdict, likelihood = written
    for each in written:
        assert each["rankings"]["alone"] == verdict["rankings"]["alone"]
        assert 0 < each["recall"]["both"] < 1
        assert each["rankings"]["reranked"]["both"]["hits@5"] >= each["recall"]["both"]
    assert verdict["cost"]["tokens"] > verdict["cost"]["shared_tokens"] > 0
    assert (verdict["cost"]["kept"], likelihood["cost"]["kept"]) == (0, 0)
    assert set(likelihood["scorer"]["template_hashes"]) == {"tail", "head"}

    shown = run(system, "fuse", "fuse", kge, llama, *data, "--out", both, *scorer).read_text()
    fused = result_of(run(system, "fused", "evaluate", both, *data, "--json", *scorer))
    assert fused["interaction"] == "transe + llama"
    assert f"{fused['sides']['both']['mrr']:.3f}" in shown
    alone = system.processes.start("alone", ["trainer", "evaluate", both, *data])
    assert alone.process.wait(60) == 2
    assert "needs a scorer" in alone.log.read_text()
    system.processes.children.remove(alone)
