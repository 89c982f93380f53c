"""Claim: one epoch of `llama` with the embedded model on UMLS dealt to three clients, over HTTP, takes less than 0.6 s.

At layer 1, which Compose reads; the whole model's time is stated beside it. One scorer with a worker a core; the
three clients train at the same time, in a process each, as they do in a federation. Run:
`python -m benchmarks.llama_epoch [FOLDER]`: FOLDER holds `client_0`, `client_1`, …; without it UMLS is dealt anew.
"""

import multiprocessing
import os
import statistics
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

from benchmarks.measure import show
from benchmarks.subject import scorer
from protocol.encoding import ReadLayer
from trainer.answers import Answers
from trainer.clients.service import Service
from trainer.dataset import read_dataset
from trainer.graph import Graph, read_folder
from trainer.inputs import wanted_training
from trainer.interactions import interaction_of
from trainer.local import fresh_model
from trainer.remote_model import RemoteModel
from trainer.reports import unheard
from trainer.split import deal
from trainer.training import Trainer

CLIENTS, EPOCHS, WARM = 3, 3, 1
LAYERS: tuple[ReadLayer, ...] = (1, "middle", "last")


def graphs(folder: Path | None) -> list[Graph]:
    """The clients' graphs."""
    if folder is not None:
        return [read_folder(client) for client in sorted(folder.glob("client_*"))]
    return [Graph.from_names(parts) for parts in deal(read_dataset("umls"), CLIENTS, seed=0)]


def train(graph: Graph, url: str, layer: ReadLayer, together: Barrier) -> None:
    """A client: epochs that begin when all clients are there."""
    torch.set_num_threads(1)
    with Service("scorer", url, None, unheard) as service:
        encoder = RemoteModel(service)
        settings = wanted_training("llama", {}, {"layer": layer}).settings(encoder)
        model = fresh_model(graph, interaction_of("llama", encoder, settings.local), settings, 0)
        trainer = Trainer(model, Answers.of(graph.train), settings.local, 0)
        for _ in range(WARM + EPOCHS):
            together.wait()
            trainer.epoch(0.0)
            together.wait()


def epoch_seconds(clients: list[Graph], url: str, layer: ReadLayer) -> float:
    """Median wall time of an epoch of all clients."""
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(len(clients) + 1)
    processes = [spawn.Process(target=train, args=(graph, url, layer, together)) for graph in clients]
    for process in processes:
        process.start()
    taken = []
    for _ in range(WARM + EPOCHS):
        together.wait()
        start = time.perf_counter()
        together.wait()
        taken.append(time.perf_counter() - start)
    for process in processes:
        process.join()
    return statistics.median(taken[WARM:])


def main() -> None:
    """Measure and print."""
    os.environ["OMP_NUM_THREADS"] = "1"
    clients = graphs(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    with scorer("embedded", SCORER_WORKERS="2", SCORER_THREADS="1", SCORER_MERGE="false") as client:
        taken = {str(layer): epoch_seconds(clients, str(client.base_url), layer) for layer in LAYERS}
    rows = [(f"layer {layer}", f"{seconds:.2f} s") for layer, seconds in taken.items()]
    queries = sum(len(Answers.of(graph.train)) for graph in clients)
    show(f"an epoch of {len(clients)} clients, {queries} queries", rows, ("state after", "time"), taken)


if __name__ == "__main__":
    main()
