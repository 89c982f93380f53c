"""What an operator does at a coordinator: start a training, look, intervene, and take away what it knows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich import box
from rich.table import Table
from rich.text import Text

from protocol.members import ClientSummary
from protocol.presets import PresetName
from protocol.rounds import RoundView, TrainingSummary
from protocol.trainings import InteractionName, TrainingSettings
from trainer.clients.coordinator import Coordinator
from trainer.clients.retries import ASKED_GIVES_UP_AFTER
from trainer.clients.service import Service
from trainer.files import whole
from trainer.inputs import ScorerAt, UsageError, progress, scorer_for, secret_in, wanted_training
from trainer.output import Output
from trainer.reports import Report

SHOWN_DIGITS = 8
"""Of a client's id in a table: enough to tell clients apart, and to name one."""


@dataclass(frozen=True)
class OperatorAt:
    """Where the coordinator is, and the file of the operator's token."""

    coordinator: str
    token_file: Path

    @contextmanager
    def calls(self, console: Output) -> Iterator[tuple[Coordinator, Report]]:
        """Calls as the operator, and where to say what they did."""
        token = secret_in(self.token_file)
        with (
            progress(console) as (say, _),
            Service("coordinator", self.coordinator, token, say, ASKED_GIVES_UP_AFTER) as service,
        ):
            yield Coordinator(service), say


def run_start(
    console: Output,
    at: OperatorAt,
    interaction: InteractionName,
    scorer: ScorerAt,
    once: bool,
    preset: PresetName,
    changes: dict[str, Any],
    local: dict[str, Any],
    page_address: str | None,
) -> None:
    """Start a training, and say where it can be watched."""
    with at.calls(console) as (operator, say):
        if once and (trainings := operator.rounds(limit=1).trainings):
            say(f"the coordinator has a training already ({trainings[0].phase}); it is left as it is")
            _begun(console, trainings[0], operator.page(page_address)[0], say)
            return
        asked = wanted_training(interaction, changes, local, preset)
        with scorer_for(interaction, scorer, say) as frozen:
            settings = asked.settings(frozen)
        summary = operator.start(settings)
        members = [client.name for client in operator.clients().clients if client.removed is None]
        begins = "now" if len(members) >= settings.clients else f"when {settings.clients} clients have joined"
        say(f"training {summary.training} of {interaction} begins {begins}")
        if members:
            say(
                f"members already: {', '.join(members)}; rounds wait for each of them, so who is gone should leave "
                "(`tripleherd leave`, or `tripleherd coordinator revoke`)"
            )
        _begun(console, summary, operator.page(page_address)[0], say)


def _begun(console: Output, summary: TrainingSummary, page: str, say: Report) -> None:
    say(f"watch it at {page}")
    console.result(summary.model_dump(mode="json") | {"page": page})


def run_page(console: Output, at: OperatorAt, page_address: str | None) -> None:
    """Print a link that opens the page for a viewer."""
    with at.calls(console) as (operator, say):
        link, made = operator.page(page_address)
        say(link)
        say(f"whoever has it may watch until {made.expires:%Y-%m-%d %H:%M} UTC, and change nothing")
        console.result({"page": link, "expires": made.expires.isoformat()})


def run_status(console: Output, at: OperatorAt) -> None:
    """Print where the latest training stands."""
    with at.calls(console) as (operator, say):
        view = operator.view()
    if view.training is None or view.settings is None:
        say(f"no training yet; {view.clients} members")
    else:
        say(f"training {view.training} of {view.settings.interaction}: {view.phase}{_whereabouts(view, view.settings)}")
        best = "no version is evaluated yet" if view.best_mrr is None else f"best validation MRR {view.best_mrr:.3f}"
        say(f"{view.rounds_done} of at most {view.settings.rounds} rounds are done; {best}")
        say(f"{view.clients} members can take part, of {view.settings.clients} to begin with")
    console.result(view.model_dump(mode="json"))


def _whereabouts(view: RoundView, settings: TrainingSettings) -> str:
    if view.paused:
        return f", {view.paused}"
    if view.phase == "joining":
        return f" until {settings.clients} clients have joined"
    return f" until {view.deadline:%Y-%m-%d %H:%M:%S} UTC at the latest" if view.deadline else ""


def run_change(console: Output, at: OperatorAt, change: Callable[[Coordinator], TrainingSummary]) -> None:
    """Pause, resume or stop the running training."""
    with at.calls(console) as (operator, say):
        summary = change(operator)
        why = f": {summary.paused}" if summary.paused else ""
        best = "no version is evaluated yet" if summary.best_version is None else f"best version {summary.best_version}"
        say(f"training {summary.training} is {summary.phase}{why}; {summary.rounds_done} rounds are done, {best}")
        console.result(summary.model_dump(mode="json"))


def run_export(console: Output, at: OperatorAt, out: Path, training: str | None) -> None:
    """Write the history, the audit log and the model into a folder, each whole or not at all."""
    with at.calls(console) as (operator, say):
        trainings, rounds = 0, 0
        with whole(out / "history.jsonl") as file:
            for page in operator.history(training):
                # Every page lists all trainings.
                file.writelines(map(_line, [*([] if trainings else page.trainings), *page.rounds]))
                trainings, rounds = len(page.trainings), rounds + len(page.rounds)
        say(f"{out / 'history.jsonl'}: {trainings} trainings and {rounds} rounds")
        entries = 0
        with whole(out / "audit.jsonl") as file:
            for log in operator.audit():
                file.writelines(map(_line, log.entries))
                entries += len(log.entries)
        say(f"{out / 'audit.jsonl'}: {entries} entries")
        with whole(out / "model.safetensors") as file:
            operator.model(file, training)
            size = file.tell()
        say(f"{out / 'model.safetensors'}: {size} bytes")
        counts = {"trainings": trainings, "rounds": rounds, "audit_entries": entries, "model_bytes": size}
        console.result({"out": str(out)} | counts)


def _line(entry: BaseModel) -> bytes:
    return entry.model_dump_json().encode() + b"\n"


def run_clients(console: Output, at: OperatorAt) -> None:
    """Print who is a member, and who was."""
    with at.calls(console) as (operator, _):
        clients = operator.clients().clients
    caption = "seen: in UTC; shared: entities that another member holds too"
    shown = Table(caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))  # which fits 80 columns
    shown.add_column("client", no_wrap=True)
    shown.add_column("name", overflow="fold", min_width=10)
    for column in ("seen", "entities", "shared", "triples", "updates", "state"):
        shown.add_column(column, no_wrap=True)
    for client in sorted(clients, key=lambda client: client.removed is not None):
        counts = map(str, (client.entities, client.shared_entities, client.triples["train"], client.updates))
        who = client.client[:SHOWN_DIGITS], Text(client.name)
        shown.add_row(*who, f"{client.seen:%m-%d %H:%M}", *counts, _state(client))
    console.result([client.model_dump(mode="json") for client in clients], shown)


def _state(client: ClientSummary) -> str:
    if client.removed is None:
        return "member"
    return "has left" if client.removed_by == "client" else "removed"


def run_revoke(console: Output, at: OperatorAt, client: str) -> None:
    """Remove a client for good; the first digits of its id name it."""
    with at.calls(console) as (operator, say):
        found = [c for c in operator.clients().clients if c.client.startswith(client)]
        if len(found) != 1:
            what = f"{len(found)} clients have ids that begin so" if found else "no client has such an id"
            raise UsageError(f"{client!r}: {what}; `tripleherd coordinator clients` lists them")
        operator.leave(found[0].client)
        say(f"client {found[0].client} ({found[0].name}) is removed; what it sent still counts")
        console.result({"client": found[0].client, "name": found[0].name})
