"""Results: each client's metrics by interaction and mode, their weighted means, and the table and file they become."""

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
COLUMNS = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@10": "Hits@10"}
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


def weighted_mean(metrics: Sequence[Metrics], weights: Sequence[int]) -> Metrics:
    """The mean over clients, weighted by their test triples (FedE)."""
    total = sum(weights)
    fields = type(metrics[0]).model_fields
    return Metrics(**{f: sum(w * getattr(m, f) for m, w in zip(metrics, weights, strict=True)) / total for f in fields})


def rows(results: Iterable[ClientResult]) -> list[dict[str, Any]]:
    """What `results.json` holds: an object for each interaction, mode and side, with its clients' rows inside."""
    groups: dict[tuple[str, Mode, SideName], list[ClientResult]] = {}
    for result in results:
        for side in result.sides:
            groups.setdefault((result.interaction, result.mode, side), []).append(result)
    return [_row(*key, sorted(group, key=lambda r: r.client)) for key, group in groups.items()]


def _row(interaction: str, mode: Mode, side: SideName, group: list[ClientResult]) -> dict[str, Any]:
    mean = weighted_mean([r.sides[side] for r in group], [r.triples for r in group])
    clients = [
        {"client": r.client, "triples": r.triples, "candidates": r.candidates, "left_out": r.left_out}
        | r.sides[side].model_dump()
        for r in group
    ]
    head = {"interaction": interaction, "mode": mode, "side": side, "split": "test", "ranks": "filtered, realistic"}
    return head | {"weights": "test triples"} | mean.model_dump() | {"clients": clients}


def table(results: Iterable[ClientResult], title: str) -> Table:
    """Interaction and mode by metric, over both sides, clients weighted by test triples."""
    results = list(results)
    out = Table(title=Text(title), caption=PROTOCOL, title_justify="left", caption_justify="left")
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


def write(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with whole(path) as out:
        out.write(json.dumps(content, indent=1).encode() + b"\n")
