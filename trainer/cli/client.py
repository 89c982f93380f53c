"""`join`, `leave` and `keys`."""

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.options import (
    HERE,
    AsJson,
    ClientName,
    Consent,
    CoordinatorUrl,
    DataOfHome,
    Device,
    HomeFolder,
    Scorer,
    ScorerKeyFile,
    ShareRows,
)
from trainer.clients.retries import MEMBER_GIVES_UP_AFTER
from trainer.commands import client
from trainer.commands.client import HomeAt, JoinOptions
from trainer.inputs import ScorerAt
from trainer.output import Output

keys = typer.Typer()


def join(
    data: Annotated[
        str,
        typer.Option(
            help="Your graph: a folder with train, valid and test.tsv, or in LibKGE's or OpenKE's form; or a PyKEEN "
            "data set.",
            envvar="TRAINER_DATA",
        ),
    ],
    shared_key_file: Annotated[
        Path,
        typer.Option(
            help="File with the key that all clients share and the coordinator must not have.",
            envvar="TRAINER_SHARED_KEY_FILE",
        ),
    ],
    coordinator: CoordinatorUrl = HERE,
    invitation_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the invitation token; needed to join, unless your key is on the operator's list.",
            envvar="TRAINER_INVITATION_FILE",
        ),
    ] = None,
    scorer: Scorer = None,
    scorer_key_file: ScorerKeyFile = None,
    name: ClientName = None,
    home: HomeFolder = None,
    texts: Consent = "none",
    share: ShareRows = "entities",
    device: Device = "cpu",
    fuse: Annotated[
        bool,
        typer.Option(
            help="After the last round, train alone as well, which takes as long as the rounds, and fuse both models.",
            envvar="TRAINER_FUSE",
        ),
    ] = True,
    give_up_after: Annotated[
        float,
        typer.Option(
            help="Seconds for which a coordinator or scorer that is away is waited for, once you have joined.",
            envvar="TRAINER_GIVE_UP_AFTER",
            min=1.0,
        ),
    ] = MEMBER_GIVES_UP_AFTER,
    as_json: AsJson = False,
) -> None:
    """Take part in a training with your own graph.

    When it is over, fuse your own model with the federation's, and print your rows.

    Who sees what: the coordinator sees opaque keys (HMACs under a key it does not have) and trained rows of your
    entities, counts and metrics: no triple, no name, and no relation unless you `--share` them. The scorer (with
    `llama`) sees the vectors and the pairs that they stand in; names and descriptions only where you agree with
    `--texts`, and triples where the training asks for the score of each. Other clients see averaged rows of entities
    they hold.

    Kill it and start it again at any time: it goes on from its last epoch, or begins to conclude anew. Where several
    clients share a machine, give each its part of the cores, as OMP_NUM_THREADS=1.

    Example: `tripleherd join --data data/umls/client_0 --shared-key-file key --invitation-file invitation`
    """
    options = JoinOptions(coordinator, shared_key_file, invitation_file, texts, share, device, fuse, give_up_after)
    client.run_join(Output(as_json), HomeAt(home, data, name), ScorerAt(scorer, scorer_key_file), options)


def leave(
    coordinator: CoordinatorUrl = HERE,
    name: ClientName = None,
    data: DataOfHome = None,
    home: HomeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Leave a federation: rounds no longer wait for you.

    What you sent still counts. `join` brings you back.

    Example: `tripleherd leave --coordinator http://127.0.0.1:8001 --data data/umls/client_0`
    """
    client.run_leave(Output(as_json), HomeAt(home, data, name), coordinator)


@keys.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    name: ClientName = None,
    data: DataOfHome = None,
    home: HomeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show your id, and the line that gets you admitted.

    An operator puts that line on the list of keys that may join. The key is made where there is none.

    Example: `tripleherd keys --data data/umls/client_0`
    """
    if context.invoked_subcommand is None:
        client.run_keys(Output(as_json), HomeAt(home, data, name))


@keys.command()
def rotate(
    coordinator: CoordinatorUrl = HERE,
    name: ClientName = None,
    data: DataOfHome = None,
    home: HomeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Replace your key; you stay the same client.

    It is replaced at every coordinator that you have joined. Stop `join` before. Where this is interrupted, do it
    again.

    Example: `tripleherd keys rotate --coordinator http://127.0.0.1:8001 --data data/umls/client_0`
    """
    client.run_rotate(Output(as_json), HomeAt(home, data, name), coordinator)
