import pytest
import torch

from trainer.dataset import read_dataset
from trainer.graph import Graph

from .support import random_graph

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def umls() -> Graph:
    return read_dataset("umls")


@pytest.fixture(scope="session")
def small() -> Graph:
    return random_graph(0)
