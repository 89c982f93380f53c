"""The operator's commands against a server that answers as the coordinator does."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from protocol.members import Audit, AuditEntry, Clients, ClientSummary
from protocol.problems import Conflict, NotFound
from protocol.rounds import Rounds, RoundSummary, RoundView, TrainingSummary
from protocol.trainings import TrainingSettings
from protocol.watching import Pass
from tests.trainer.support import Loopback, Reply, Run, loopback

WHEN = "2025-01-02T03:04:05Z"
TOKEN = "the operator's token"
IDS = ["ab" * 32, "ac" * 32]


def summary(**changes: object) -> TrainingSummary:
    said = {"training": "t1", "phase": "training", "started": WHEN, "finished": None, "paused": None, "rounds_done": 4}
    said |= {"stopped": False, "best_version": 3, "best_mrr": 0.5, "settings": TrainingSettings(interaction="transe")}
    return TrainingSummary.model_validate(said | changes)


def round_summary(number: int) -> RoundSummary:
    said = {"round": number, "training": "t1", "phase": "finished", "opened": WHEN, "closed": WHEN, "selected": 1}
    return RoundSummary.model_validate(said | {"updates": 1, "bytes": 99, "loss": 0.5, "evaluations": []})


def client(number: int, **changes: object) -> ClientSummary:
    said = {"client": IDS[number], "name": f"clinic [{number}]", "key": IDS[number], "joined": WHEN, "seen": WHEN}
    said |= {"removed": None, "removed_by": None, "entities": 135, "shared_entities": 128, "updates": 7, "bytes": 4711}
    said |= {"relations": 0, "shared_relations": 0}
    said |= {"triples": {"train": 800, "valid": 100, "test": 90}, "last_round": 12}
    return ClientSummary.model_validate(said | changes)


def page(path: str, total: int) -> tuple[list[int], int | None]:
    """Numbers of one page of at most three, newest first, and what to ask for next."""
    before = int(parse_qs(urlsplit(path).query).get("before", [str(total + 1)])[0])
    numbers = list(range(total, 0, -1))[total + 1 - before :][:3]
    return numbers, numbers[-1] if numbers and numbers[-1] > 1 else None


def answer(path: str, body: bytes) -> Reply:
    match path.split("?")[0]:
        case "/rounds":
            numbers, following = page(path, 7)
            rounds = Rounds(trainings=[summary()], rounds=[round_summary(n) for n in numbers], next_before=following)
            return 200, rounds.model_dump_json().encode()
        case "/audit":
            numbers, following = page(path, 5)
            said = {"at": WHEN, "who": "operator", "did": "pause", "round": None, "subject": "t1", "digest": None}
            entries = [AuditEntry.model_validate(said | {"number": n}) for n in numbers]
            return 200, Audit(entries=entries, next_before=following).model_dump_json().encode()
        case "/session/pass":
            return 201, Pass(token="viewer.1.mac", expires=WHEN).model_dump_json().encode()
        case "/model":
            return 200, b"the model" * 100_000
        case "/clients":
            two = [client(0), client(1, removed=WHEN, removed_by="client")]
            return 200, Clients(clients=two).model_dump_json().encode()
        case "/round/pause":
            return 200, summary(phase="paused", paused="by the operator").model_dump_json().encode()
        case "/round/resume" | "/round/stop" | "/round":
            return 200, summary(best_version=None).model_dump_json().encode()
    return 204, b""


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(answer) as running:
        yield running
    assert {headers["Authorization"] for _, _, headers, _ in running.seen} <= {f"Bearer {TOKEN}"}


Operate = Callable[..., Run]


@pytest.fixture
def operate(server: Loopback, here: Callable[..., Run], tmp_path: Path) -> Operate:
    (tmp_path / "operator").write_text(TOKEN)
    return lambda *words: here(*words, "--coordinator", server.url, "--operator-token-file", tmp_path / "operator")


def refusing(path: str, problem: Conflict | NotFound) -> Callable[[str, bytes], Reply]:
    content = problem.document().model_dump_json(exclude_defaults=True).encode()
    return lambda asked, body: (problem.status, content) if asked == path else answer(asked, body)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_export_writes_everything_page_by_page(operate: Operate, server: Loopback, tmp_path: Path) -> None:
    run = operate("coordinator", "export", "--out", tmp_path / "out", "--training", "t1")
    assert run.returncode == 0, run.stderr
    training, *rounds = lines(tmp_path / "out" / "history.jsonl")
    assert TrainingSummary.model_validate(training) == summary()
    assert [RoundSummary.model_validate(line).round for line in rounds] == [7, 6, 5, 4, 3, 2, 1]
    log = lines(tmp_path / "out" / "audit.jsonl")
    assert [AuditEntry.model_validate(line).number for line in log] == [5, 4, 3, 2, 1]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"the model" * 100_000
    assert len(list((tmp_path / "out").iterdir())) == 3
    asked = [path for _, path, _, _ in server.seen if not path.startswith("/audit")]
    assert all("training=t1" in path for path in asked)


def test_an_export_without_a_model_leaves_the_former_one_alone(
    operate: Operate, server: Loopback, tmp_path: Path
) -> None:
    former = tmp_path / "out" / "model.safetensors"
    former.parent.mkdir()
    former.write_text("former")
    server.respond = refusing("/model", NotFound("training t1 has no evaluated version yet"))
    run = operate("coordinator", "export", "--out", tmp_path / "out")
    assert run.returncode == 2
    assert "no evaluated version yet" in run.stderr
    assert {path.name for path in former.parent.iterdir()} == {"audit.jsonl", "history.jsonl", former.name}
    assert former.read_text() == "former"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("pause", "training t1 is paused: by the operator; 4 rounds are done, best version 3"),
        ("resume", "training t1 is training; 4 rounds are done, no version is evaluated yet"),
        ("stop", "training t1 is training; 4 rounds are done, no version is evaluated yet"),
    ],
)
def test_a_running_training_is_changed(operate: Operate, server: Loopback, what: str, said: str) -> None:
    run = operate("coordinator", what)
    assert (run.returncode, run.stdout.strip()) == (0, said)
    assert [(method, path) for method, path, _, _ in server.seen] == [("POST", f"/round/{what}")]


@pytest.mark.parametrize("what", ["pause", "resume", "stop"])
def test_programs_read_the_training_that_was_changed(operate: Operate, what: str) -> None:
    run = operate("coordinator", what, "--json")
    assert TrainingSummary.model_validate_json(run.stdout).training == "t1"
    assert "training t1 is" in run.stderr


def test_programs_read_what_was_exported_and_who_was_removed(operate: Operate, tmp_path: Path) -> None:
    exported = json.loads(operate("coordinator", "export", "--out", tmp_path / "out", "--json").stdout)
    assert exported == {
        "out": str(tmp_path / "out"),
        "trainings": 1,
        "rounds": 7,
        "audit_entries": 5,
        "model_bytes": (tmp_path / "out" / "model.safetensors").stat().st_size,
    }
    removed = json.loads(operate("coordinator", "revoke", "ac", "--json").stdout)
    assert removed == {"client": IDS[1], "name": "clinic [1]"}


def test_a_link_to_the_page_is_printed_by_itself_and_by_start(operate: Operate, server: Loopback) -> None:
    for command in (("coordinator", "page"), ("start",)):
        run = operate(*command)
        assert f"{server.url}/#pass=viewer.1.mac" in run.stdout.split()
        elsewhere = operate(*command, "--page-address", "https://federation.example/", "--json")
        assert json.loads(elsewhere.stdout)["page"] == "https://federation.example/#pass=viewer.1.mac"


def test_a_refusal_is_one_line(operate: Operate, server: Loopback) -> None:
    server.respond = refusing("/round/pause", Conflict("no training is running"))
    run = operate("coordinator", "pause")
    assert (run.returncode, run.stderr) == (2, "error: no training is running\n")


VIEW = {"event": 1, "training": "t1", "phase": "training", "round": 5, "selected": False, "answered": False}
VIEW |= {"deadline": WHEN, "rounds_done": 4, "best_mrr": 0.41, "clients": 3}
VIEW |= {"settings": TrainingSettings(interaction="transe", clients=3, rounds=9).model_dump()}
JOINING = VIEW | {"phase": "joining", "deadline": None, "rounds_done": 0, "best_mrr": None, "clients": 1}


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (
            VIEW,
            ["training until 2025-01-02 03:04:05 UTC at the latest", "4 of at most 9 rounds", "MRR 0.410", "3 members"],
        ),
        (VIEW | {"phase": "paused", "paused": "by the operator"}, ["paused, by the operator"]),
        (
            JOINING,
            ["joining until 3 clients have joined", "no version is evaluated yet", "1 members can take part, of 3"],
        ),
        (JOINING | {"training": None, "settings": None, "phase": "idle"}, ["no training yet; 1 members"]),
    ],
    ids=["training", "paused", "joining", "idle"],
)
def test_status_says_where_the_training_stands(
    here: Callable[..., Run], tmp_path: Path, view: dict[str, object], said: list[str]
) -> None:
    (tmp_path / "operator").write_text(TOKEN)
    whole = RoundView.model_validate(view).model_dump_json()
    with loopback(lambda path, body: (200, whole.encode())) as running:
        asked = ("coordinator", "status", "--coordinator", running.url, "--operator-token-file", tmp_path / "operator")
        shown = here(*asked).stdout
        assert json.loads(here(*asked, "--json").stdout) == json.loads(whole)
    assert all(part in shown for part in said), shown


def test_clients_are_listed_with_what_they_did(operate: Operate) -> None:
    run = operate("coordinator", "clients")
    first, second = [re.split(r"\s\s+", line.strip()) for line in run.stdout.splitlines() if "clinic" in line]
    assert first == [IDS[0][:8], "clinic [0]", "01-02 03:04", "135", "128", "800", "7", "member"]
    assert second[-1] == "has left"
    listed = json.loads(operate("coordinator", "clients", "--json").stdout)
    assert ClientSummary.model_validate(listed[0]) == client(0)


@pytest.mark.parametrize(("clients", "begins"), [("1", "now"), ("2", "when 2 clients have joined")])
def test_start_says_when_it_begins(operate: Operate, clients: str, begins: str) -> None:
    assert f"of transe begins {begins}" in operate("start", "--clients", clients).stdout


def test_the_list_of_clients_fits_a_narrow_terminal(operate: Operate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = operate("coordinator", "clients").stdout
    assert "…" not in shown
    columns = ["client", "name", "seen", "entities", "shared", "triples", "updates", "state"]
    assert next(line for line in shown.splitlines() if line.strip()).split() == columns
    assert [name in shown for name in ("clinic [0]", "clinic [1]", "has left")] == [True] * 3


@pytest.mark.parametrize("named", [IDS[1], IDS[1][:8], "ac"])
def test_a_client_is_removed_by_the_digits_that_the_list_shows(operate: Operate, server: Loopback, named: str) -> None:
    run = operate("coordinator", "revoke", named)
    assert run.returncode == 0, run.stderr
    assert [(m, path) for m, path, _, _ in server.seen if m == "DELETE"] == [("DELETE", f"/clients/{IDS[1]}")]


@pytest.mark.parametrize(("named", "why"), [("a", "2 clients have ids that begin so"), ("ff", "no client has such an")])
def test_nobody_is_removed_whom_the_digits_do_not_tell(
    operate: Operate, server: Loopback, named: str, why: str
) -> None:
    run = operate("coordinator", "revoke", named)
    assert run.returncode == 2
    assert why in run.stderr
    assert not [m for m, *_ in server.seen if m == "DELETE"]


def test_start_says_how_updates_are_aggregated_shared_and_sent(operate: Operate, server: Loopback) -> None:
    options = ["--aggregation", "adam", "--server-learning-rate", "0.1", "--share", "both", "--wire-dtype", "bfloat16"]
    run = operate("start", *options, "--over-selection", "0.5", "--attempts", "9", "--interaction", "distmult")
    assert run.returncode == 0, run.stderr
    settings = TrainingSettings.model_validate_json(server.seen[0][3])
    assert (settings.aggregation.strategy, settings.aggregation.learning_rate) == ("adam", 0.1)
    assert (settings.share, settings.relation_dim, settings.wire_dtype) == ("both", 512, "bfloat16")
    assert (settings.over_selection, settings.attempts) == (0.5, 9)


def test_start_without_options_is_the_protocol_s_default(operate: Operate, server: Loopback) -> None:
    operate("start")
    settings = TrainingSettings.model_validate_json(server.seen[0][3])
    plain = TrainingSettings(interaction="transe")
    for name in ("aggregation", "share", "relation_dim", "wire_dtype", "over_selection", "attempts"):
        assert getattr(settings, name) == getattr(plain, name)
