"""Claim: by names and descriptions alone, the embedded model tells true triples from hard negatives.

The area under the ROC curve of `verdict`, `number` and `likelihood` on CoDEx-S's test triples against its hard
negatives (Safavi and Koutra, CoDEx, 2020). The control has numbers for names, and no descriptions: what is left is what
a model makes of prompts without meaning; it is taken for several ways to deal the numbers.

Run: `python -m benchmarks.codex_s FOLDER [MODEL] [--part valid]`; the folder holds entities.tsv, relations.tsv,
test.tsv and test_negatives.tsv.
"""

import argparse
import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from sklearn.metrics import roc_auc_score

from benchmarks.measure import show
from benchmarks.subject import scorer

CALL = 500
"""Triples a call."""
DEALS = 5

Texts = dict[str, dict[str, str]]
Triple = tuple[str, str, str]


def table(path: Path) -> list[list[str]]:
    """The rows of a TSV file."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def texts(path: Path, *, described: bool) -> Texts:
    """Name and description of each id of entities.tsv or relations.tsv."""
    found = {}
    for row in table(path):
        found[row[0]] = {"name": row[1]}
        if described and len(row) > 2 and row[2].strip():
            found[row[0]]["description"] = row[2]
    return found


def numbered(given: Texts, word: str, seed: int) -> Texts:
    """Numbers in place of all names."""
    numbers = list(range(len(given)))
    random.Random(f"{seed} {word}").shuffle(numbers)
    return {id_: {"name": f"{word} {number}"} for id_, number in zip(given, numbers, strict=True)}


def scores(
    client: httpx.Client, triples: Sequence[Triple], entities: Texts, relations: Texts, readout: str
) -> Iterator[float]:
    """The score of each triple. A tail that `likelihood` asks for is its name."""
    for start in range(0, len(triples), CALL):
        some = triples[start : start + CALL]
        # Each entity stands twice: as what is given, and as what is asked for.
        rows = {
            key: number for number, key in enumerate(dict.fromkeys(k for h, _, t in some for k in ((h, 0), (t, 1))))
        }
        kinds = {id_: number for number, id_ in enumerate(dict.fromkeys(relation for _, relation, _ in some))}
        asked = readout == "likelihood"
        body: dict[str, Any] = {
            "entities": [{"name": entities[id_]["name"]} if asked and as_ else entities[id_] for id_, as_ in rows],
            "relations": [relations[id_] for id_ in kinds],
            "triples": [[rows[head, 0], kinds[relation], rows[tail, 1]] for head, relation, tail in some],
            "readout": readout,
        }
        reply = client.post("/score", json=body)
        reply.raise_for_status()
        yield from reply.json()["scores"]


def areas(
    client: httpx.Client, parts: Sequence[Sequence[Triple]], entities: Texts, relations: Texts, readout: str
) -> tuple[float, float]:
    """Areas under the ROC curve, true triples against false ones: over all, and the mean of each relation's own.

    The second tells what the readout says of triples, and not of relations; it is weighted by a relation's triples, of
    those that have both kinds.
    """
    found = [score for part in parts for score in scores(client, part, entities, relations, readout)]
    truth = [1] * len(parts[0]) + [0] * len(parts[1])
    groups: dict[str, list[int]] = {}
    for number, (_, relation, _) in enumerate([*parts[0], *parts[1]]):
        groups.setdefault(relation, []).append(number)
    mixed = [group for group in groups.values() if len({truth[number] for number in group}) == 2]
    own = [roc_auc_score([truth[n] for n in group], [found[n] for n in group]) for group in mixed]
    sizes = [len(group) for group in mixed]
    within = sum(a * size for a, size in zip(own, sizes, strict=True)) / sum(sizes)
    return float(roc_auc_score(truth, found)), float(within)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codex_s", description="Areas under ROC curves.")
    parser.add_argument("folder", type=Path, help="CoDEx-S: entities.tsv, relations.tsv, triples and negatives")
    parser.add_argument("model", nargs="?", default="embedded", help="as SCORER_MODEL names it; default: %(default)s")
    parser.add_argument("--part", default="test", choices=["valid", "test"], help="default: %(default)s")
    given = parser.parse_args()
    parts: list[list[Triple]] = [
        [(head, relation, tail) for head, relation, tail in table(given.folder / f"{given.part}{kind}.tsv")]
        for kind in ("", "_negatives")
    ]
    entities, relations = given.folder / "entities.tsv", given.folder / "relations.tsv"
    named = texts(entities, described=False), texts(relations, described=False)
    told = texts(entities, described=True), named[1]
    result: dict[str, tuple[float, float]] = {}
    deviations = {}
    with scorer(given.model) as client:
        for readout in ("verdict", "number", "likelihood"):
            result[f"{readout}, names and descriptions"] = areas(client, parts, *told, readout)
            result[f"{readout}, names"] = areas(client, parts, *named, readout)
            deals = [
                areas(client, parts, numbered(named[0], "entity", seed), numbered(named[1], "relation", seed), readout)
                for seed in range(DEALS)
            ]
            over_all, within = zip(*deals, strict=True)
            result[f"{readout}, anonymised"] = statistics.mean(over_all), statistics.mean(within)
            deviations[f"{readout}, anonymised, deviation"] = statistics.stdev(over_all)
    rows = [(name, *(f"{area:.3f}" for area in found)) for name, found in result.items()]
    rows += [(name, f"{deviation:.3f}", "") for name, deviation in deviations.items()]
    title = f"{given.model}: {len(parts[0])} true and {len(parts[1])} false triples of {given.part}"
    figures = {name: over_all for name, (over_all, _) in result.items()} | deviations
    show(title, rows, ("", "area", "within relations"), figures)


if __name__ == "__main__":
    main()
