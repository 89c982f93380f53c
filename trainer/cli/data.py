"""`split` and `convert`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trainer.cli.options import AsJson, Seed
from trainer.commands import data
from trainer.formats.table import Columns
from trainer.output import Output
from trainer.owners import By

Out = Annotated[
    Path, typer.Option(help="Written: client_0, client_1, … with train, valid and test.tsv, and statistics.json.")
]


Stays = Annotated[
    By,
    typer.Option(
        help="What stays together: `relations`, dealt at random; `clusters` of relations that share entities; or "
        "nothing (`triples`, dealt at random)."
    ),
]
Skew = Annotated[
    float | None,
    typer.Option(
        help="Unequal sizes, drawn from a Dirichlet distribution with this concentration: 1 is unequal, 100 hardly."
    ),
]
ColumnsOfFile = Annotated[
    Any,
    typer.Option(
        help="Of one file: where head, relation and tail are, as 1,2,3 or as names of its header line.",
        parser=Columns.parse,
        metavar="HEAD,RELATION,TAIL",
    ),
]


def split(
    dataset: Annotated[
        str, typer.Argument(help="A folder, one file with all triples, or a PyKEEN data set such as `umls`.")
    ],
    out: Out,
    clients: Annotated[int, typer.Option(help="How many to deal to.", min=1)] = 3,
    by: Stays = "relations",
    skew: Skew = None,
    seed: Seed = 0,
    columns: ColumnsOfFile = None,
    shared_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that the sites of a federation share. It then says what each triple is for, the "
            "same at every site that holds it, so that none is tested at one site and trained on at another."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deal a graph to clients, and count what they share.

    Each client's triples are split 80/10/10 into training, validation and test triples. Entities' and relations' texts
    beside the graph (entities.tsv, relations.tsv) go along with them.

    Example: `tripleherd split umls --clients 3 --out data/umls`

    Example: `tripleherd split export.csv --columns subject,predicate,object --by clusters --out data/export`

    Your own site's: `tripleherd split site.tsv --clients 1 --shared-key-file key --out data/site`
    """
    data.run_split(Output(as_json), dataset, out, clients, by, skew, seed, columns, shared_key_file)


def convert(
    file: Annotated[Path, typer.Argument(help="A data set of FedE's, such as FB15k237-Fed3.pkl.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Make folders of FedE's own data sets (.pkl).

    One for each client, to join with. The pickle is read without running anything: what is no array of integers is
    refused.

    Example: `tripleherd convert FB15k237-Fed3.pkl --out data/fb15k237-fed3`
    """
    data.run_convert(Output(as_json), file, out)
