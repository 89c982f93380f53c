"""Results: each client's metrics by interaction and mode, their means, and the table and file they become."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from rich.table import Table
from rich.text import Text

from protocol.rounds import Metrics, Mode, SideName
from protocol.trainings import InteractionName
from trainer.files import whole

MODES: tuple[Mode, ...] = ("isolation", "collection", "federation", "fusion")
COLUMNS = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@5": "Hits@5", "hits@10": "Hits@10"}
ALL_COLUMNS = COLUMNS | {"mr": "MR", "amri": "AMRI"}
PROTOCOL = "test triples; filtered, realistic ranks among the entities of each client's training graph"


class ClientResult(BaseModel):
    """One client's metrics in one mode, on its own test triples.

    Attributes:
        candidates: Entities that a rank is among.
        left_out: Test triples that cannot be ranked, because the training graph lacks their entity or relation.
    """

    interaction: InteractionName
    mode: Mode
    client: str
    triples: int
    candidates: int
    left_out: int
    sides: dict[SideName, Metrics]


_RESULTS = TypeAdapter(list[ClientResult])


def read_results(path: Path) -> list[ClientResult]:
    """Clients' rows as `write_results` wrote them."""
    return _RESULTS.validate_json(path.read_bytes())


def write_results(path: Path, results: list[ClientResult]) -> None:
    """Clients' rows, for other commands to read."""
    write(path, _RESULTS.dump_python(results, mode="json"))


def means(results: Sequence[ClientResult], side: SideName) -> dict[str, Metrics]:
    """Means over clients: weighted by their test triples (FedE), and macro, where each client weighs the same."""
    metrics = [result.sides[side] for result in results]
    weights = {"weighted": [result.triples for result in results], "macro": [1] * len(results)}
    return {name: Metrics.mean(metrics, each) for name, each in weights.items()}


def rows(results: Iterable[ClientResult]) -> list[dict[str, Any]]:
    """What `results.json` holds: an object for each interaction, mode and side.

    Its metrics are the mean over clients weighted by test triples (FedE); inside are the plain mean, `macro`, and the
    clients' rows.
    """
    groups: dict[tuple[str, Mode, SideName], list[ClientResult]] = {}
    for result in results:
        for side in result.sides:
            groups.setdefault((result.interaction, result.mode, side), []).append(result)
    return [_row(*key, sorted(group, key=lambda r: r.client)) for key, group in groups.items()]


def _row(interaction: str, mode: Mode, side: SideName, group: list[ClientResult]) -> dict[str, Any]:
    mean = means(group, side)
    clients = [
        {"client": r.client, "triples": r.triples, "candidates": r.candidates, "left_out": r.left_out}
        | r.sides[side].model_dump()
        for r in group
    ]
    head = {"interaction": interaction, "mode": mode, "side": side, "split": "test", "ranks": "filtered, realistic"}
    averages = {"weights": "test triples"} | mean["weighted"].model_dump() | {"macro": mean["macro"].model_dump()}
    return head | averages | {"clients": clients}


def table(results: Iterable[ClientResult], title: str) -> Table:
    """Interaction and mode by metric, over both sides, clients weighted by test triples."""
    results = list(results)
    caption = PROTOCOL + ties(r.sides["both"] for r in results)
    out = Table(title=Text(title), caption=caption, title_justify="left", caption_justify="left")
    for name in ("interaction", "mode", *COLUMNS.values()):
        out.add_column(name, justify="left" if name in ("interaction", "mode") else "right")
    both = [row for row in rows(results) if row["side"] == "both"]
    order = {name: i for i, name in enumerate(dict.fromkeys(r.interaction for r in results))}
    both.sort(key=lambda row: (order[row["interaction"]], MODES.index(row["mode"])))
    for i, row in enumerate(both):
        last = i + 1 == len(both) or both[i + 1]["interaction"] != row["interaction"]
        values = [f"{row[column]:.3f}" for column in COLUMNS]
        out.add_row(row["interaction"], row["mode"], *values, end_section=last)
    return out


def ties(metrics: Iterable[Metrics]) -> str:
    """A further line under a table where candidates were level: how far the MRR depends on their places."""
    gap = max((each.mrr_gap for each in metrics), default=0.0)
    return f"\nties: MRR is up to {gap:.2g} higher with each answer's best place than with its worst" if gap else ""


def write(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with whole(path) as out:
        out.write(json.dumps(content, indent=1).encode() + b"\n")
