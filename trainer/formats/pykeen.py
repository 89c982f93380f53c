"""PyKEEN's data sets, by name: small ones ship inside its package, others are downloaded by it."""

import tarfile
import zipfile
from collections.abc import Mapping

from trainer.graph import SPLITS, DataError, Named


def read_pykeen(name: str) -> Mapping[str, list[Named]]:
    """The labelled triples of a data set by split.

    Raises:
        DataError: PyKEEN knows none of that name, or could not read or download it.
    """
    # PyKEEN is slow to import and needed nowhere else.
    from pykeen.datasets import get_dataset, has_dataset
    from pykeen.triples import TriplesFactory

    try:
        known = has_dataset(name)
    except KeyError:  # Depends on the version of the resolver that PyKEEN asks.
        known = False
    if not known:
        raise DataError(
            f"{name}: neither a folder, a file nor a PyKEEN data set; `umls` and `nations` need no download"
        )
    try:
        dataset = get_dataset(dataset=name)
        factories = dict(zip(SPLITS, (dataset.training, dataset.validation, dataset.testing), strict=True))
        found = {
            split: [(str(h), str(r), str(t)) for h, r, t in factory.label_triples(factory.mapped_triples)]
            for split, factory in factories.items()
            if isinstance(factory, TriplesFactory)
        }
    except (OSError, ImportError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{name}: PyKEEN could not read or download this data set ({error})") from error
    if "train" not in found:
        raise DataError(f"{name}: PyKEEN has this data set without the names of entities, by which clients meet")
    return found
