"""Where triples come from by name: a folder of TSV files, or a data set that PyKEEN knows."""

from collections.abc import Mapping
from pathlib import Path

from trainer.graph import SPLITS, DataError, Graph, read_folder

Named = Mapping[str, list[tuple[str, str, str]]]


def read_dataset(source: str) -> Graph:
    """The graph of a folder, or of a PyKEEN data set such as `umls`, `nations` or `fb15k237`.

    Raises:
        DataError: It is neither.
    """
    path = Path(source)
    if path.exists() or path.name != source:
        return read_folder(path)
    return Graph.from_names(_pykeen_triples(source))


def _pykeen_triples(name: str) -> Named:
    """The labelled triples of a PyKEEN data set; small ones ship inside its package, others are downloaded by it."""
    # PyKEEN is slow to import and needed nowhere else.
    from pykeen.datasets import get_dataset, has_dataset
    from pykeen.triples import TriplesFactory

    try:
        known = has_dataset(name)
    except KeyError:  # Depends on the version of the resolver that PyKEEN asks.
        known = False
    if not known:
        raise DataError(f"{name}: neither a folder nor a PyKEEN data set; `umls` and `nations` need no download")
    try:
        dataset = get_dataset(dataset=name)
        factories = dict(zip(SPLITS, (dataset.training, dataset.validation, dataset.testing), strict=True))
        return {
            split: [(str(h), str(r), str(t)) for h, r, t in factory.label_triples(factory.mapped_triples)]
            for split, factory in factories.items()
            if isinstance(factory, TriplesFactory)
        }
    except OSError as error:
        raise DataError(f"{name}: PyKEEN could not read or download this data set ({error})") from error
