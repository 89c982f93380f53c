"""Make one table of what experiments have measured: a line for each run, mode, side and client, and for the means.

Run: `python -m tools.results FOLDER...` reads the `results.jsonl` of folders that `tripleherd experiment` wrote, and
writes `docs/results.csv`. Lines of an experiment that no folder is given of stay as they are.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.committed import ROOT

FILE = ROOT / "docs" / "results.csv"
METRICS = ("mrr", "hits@1", "hits@3", "hits@5", "hits@10", "mr", "amri", "mrr_gap")
RUN = ("experiment", "data", "variant", "mode", "seed")
COLUMNS = (*RUN, "of", "triples", "side", *METRICS, "best_round", "rounds", "commit")
"""`of`: `weighted` and `macro` are the means over clients; everything else is a client's name."""
SIDES = ("both", "tail")

Row = dict[str, str]


def main(folders: list[str]) -> None:
    """Write the table."""
    new = [row for folder in folders for row in _rows(Path(folder) / "results.jsonl")]
    given = {row["experiment"] for row in new}
    rows = [row for row in (read() if FILE.is_file() else []) if row["experiment"] not in given] + new
    rows.sort(key=lambda row: [*(row[name] for name in RUN), row["side"], row["of"]])
    with FILE.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read() -> list[Row]:
    """The rows of the table."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _rows(file: Path) -> Iterator[Row]:
    for line in file.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        training = record["training"] or {}
        run = {name: str(record[name]) for name in RUN} | {"commit": _short(record["machine"]["git"])}
        run |= {name: str(training.get(name) or "") for name in ("best_round", "rounds")}
        triples = sum(client["triples"] for client in record["clients"])
        for side in SIDES:
            for mean, metrics in record["sides"][side].items():
                yield run | _measured(mean, triples, side, metrics)
            for client in record["clients"]:
                yield run | _measured(client["client"], client["triples"], side, client["sides"][side])


def _short(commit: str | None) -> str:
    """Twelve digits of it, and whether the checkout had changes that no commit has."""
    digits, dirty, _ = (commit or "").partition("-dirty")
    return digits[:12] + dirty


def _measured(of: str, triples: int, side: str, metrics: dict[str, float]) -> Row:
    return {"of": of, "triples": str(triples), "side": side} | {name: f"{metrics[name]:.5f}" for name in METRICS}


if __name__ == "__main__":
    main(sys.argv[1:])
