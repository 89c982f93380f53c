"""Synthetic clients, in-process stores with a clock that stands still, and real servers on loopback ports."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from protocol.federation import (
    Evaluation,
    JoinRequest,
    Metrics,
    RoundView,
    TrainingSettings,
    UpdateReceipt,
    model_tensors,
)
from protocol.tensors import Array, decode, encode
from services.coordinator.evaluations import accept_evaluation
from services.coordinator.joining import join
from services.coordinator.rounds import advance
from services.coordinator.store import Store
from services.coordinator.trainings import start_training
from services.coordinator.updates import accept_update
from services.coordinator.versions import client_share
from services.coordinator.views import round_view

ROOT = Path(__file__).parents[2]
OPERATOR = "operators-token-for-tests"
INVITATION = "invitation-token-for-tests"
JSON = {"content-type": "application/json"}
SAFETENSORS = {"content-type": "application/safetensors"}
LIMIT = 1 << 20


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {"interaction": "transe", "dim": 4, "rounds": 4, "evaluate_every": 2, "deadline_seconds": 60} | changes
    )


@dataclass
class Member:
    """A client whose entities are given by name, and whose updates are a function of what it fetched."""

    name: str
    entities: list[str]
    triples: dict[str, int] = field(default_factory=lambda: {"train": 10, "valid": 2, "test": 2})
    id: str = ""
    secret: str = ""

    def request(self) -> JoinRequest:
        return JoinRequest(
            name=self.name,
            join_key=key("join " + self.name),
            entities=[key(entity) for entity in self.entities],
            triples={"valid": 0, "test": 0} | self.triples,
        )

    def trained(self, share: dict[str, Array], step: float | None = None) -> bytes:
        """The update after "training": everything moves by the step, or by a number that the name gives."""
        move = np.float32(int(key(self.name)[:4], 16) / 65536 if step is None else step)
        return self.body({name: tensor + move for name, tensor in share.items()})

    def body(self, tensors: dict[str, Array], **header: object) -> bytes:
        return encode(tensors, {"triples": self.triples["train"], "loss": 0.5} | header)


def members(*sizes: int) -> list[Member]:
    """Members m0, m1, …: the i-th holds entities e_i, e_i+1, … so that neighbours overlap."""
    return [Member(f"m{i}", [f"e{i + j}" for j in range(size)]) for i, size in enumerate(sizes)]


def evaluation(mrr: float, triples: int = 2, mode: str = "federation", split: str = "valid") -> Evaluation:
    metrics = Metrics(mrr=mrr, hits_at_1=mrr / 2, hits_at_3=mrr, hits_at_10=mrr)
    return Evaluation.model_validate(
        {"mode": mode, "split": split, "triples": triples, "sides": {"both": metrics.model_dump()}}
    )


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Local:
    """A federation on a store in this process: what routes do, without HTTP."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock

    def start(self, **changes: object) -> str:
        training = start_training(self.store, settings(**changes), LIMIT).training
        advance(self.store)
        return training

    def join(self, *joining: Member) -> None:
        for member in joining:
            reply = join(self.store, member.request())
            member.id, member.secret = reply.client, reply.secret
        advance(self.store)

    def view(self, member: Member | None = None) -> RoundView:
        return round_view(self.store, member and member.id)

    def share(self, member: Member, version: int | None = None) -> dict[str, Array]:
        view = self.view()
        assert view.settings is not None
        number = version or view.round
        assert number is not None
        specs = model_tensors(view.settings, len(member.entities))
        return decode(client_share(self.store, member.id, number), specs)[0]

    def send(self, member: Member, step: float | None = None, round: int | None = None) -> UpdateReceipt:
        number = round or self.view().round
        assert number is not None
        receipt, _ = accept_update(self.store, member.id, number, member.trained(self.share(member), step))
        advance(self.store)
        return receipt

    def report(self, member: Member, mrr: float, **kind: object) -> None:
        number = self.view().round
        assert number is not None
        accept_evaluation(self.store, member.id, number, evaluation(mrr, member.triples["valid"], **kind))
        advance(self.store)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        advance(self.store)

    def selected(self, among: list[Member]) -> list[Member]:
        return [member for member in among if self.view(member).selected]


class Server:
    """A coordinator in a process of its own, driven over HTTP."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.http = httpx.Client(timeout=20, trust_env=False)
        self.start()

    def start(self) -> None:
        """Start on a free port. Another process may take the port before the server does: then on another."""
        errors = []
        for _ in range(3):
            port = free_port()
            self._process = launch(port, environment(self._data_dir))
            self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            if self._becomes_ready():
                return
            self._process.kill()
            errors.append(self._process.communicate()[1])
        self.http.close()
        raise RuntimeError(f"the server did not become ready: {errors}")

    def _becomes_ready(self) -> bool:
        until = time.monotonic() + 30
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.http.get("/ready").is_success:
                    return True
            except httpx.TransportError:
                time.sleep(0.05)
        return False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        self.http.close()

    def _end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        self._process.communicate(timeout=20)
        return self._process.returncode

    def join(self, *joining: Member) -> None:
        for member in joining:
            reply = self.post("/clients", INVITATION, member.request().model_dump())
            assert reply.status_code == 201, reply.text
            member.id, member.secret = reply.json()["client"], reply.json()["secret"]

    def begin(self, **changes: object) -> str:
        reply = self.post("/round", OPERATOR, settings(**changes).model_dump(mode="json"))
        assert reply.status_code == 201, reply.text
        return str(reply.json()["training"])

    def post(self, path: str, token: str, body: object) -> httpx.Response:
        return self.http.post(path, headers=bearer(token), json=body)

    def view(self, token: str = OPERATOR, **query: float) -> RoundView:
        reply = self.http.get("/round", headers=bearer(token), params=query)
        assert reply.status_code == 200, reply.text
        return RoundView.model_validate_json(reply.content)

    def until(self, round: int, phase: str) -> RoundView:
        """Wait for a phase of a round that will come by itself."""
        deadline = time.monotonic() + 20
        view = self.view()
        while (view.round, view.phase) != (round, phase):
            assert time.monotonic() < deadline, view
            view = self.view(wait=5, after=view.event)
        return view

    def share(self, member: Member, number: int) -> dict[str, Array]:
        reply = self.http.get(f"/round/{number}/embeddings", headers=bearer(member.secret))
        assert reply.status_code == 200, reply.text
        fixed = self.view().settings
        assert fixed is not None
        return decode(reply.content, model_tensors(fixed, len(member.entities)))[0]

    def put_update(self, member: Member, number: int, body: bytes) -> httpx.Response:
        return self.http.put(f"/round/{number}/update", headers=bearer(member.secret) | SAFETENSORS, content=body)

    def put_evaluation(self, member: Member, number: int, content: Evaluation) -> httpx.Response:
        return self.http.put(
            f"/round/{number}/evaluation",
            headers=bearer(member.secret) | JSON,
            content=content.model_dump_json(),
        )

    def act(self, member: Member, view: RoundView) -> None:
        """What a client does that is selected and has not answered."""
        assert view.round is not None
        if view.phase == "training":
            reply = self.put_update(member, view.round, member.trained(self.share(member, view.round)))
        else:
            reply = self.put_evaluation(member, view.round, evaluation(min(1.0, view.round / 100)))
        assert reply.status_code in (200, 201), reply.text

    def run(self, crowd: list[Member], stop_at: int | None = None) -> RoundView:
        """Act for every member until the training is finished, or round `stop_at` is open."""
        while True:
            before = self.view()
            if before.phase == "finished" or (stop_at is not None and before.round == stop_at):
                return before
            acting = [(member, self.view(member.secret)) for member in crowd]
            # The round may have closed since; then look again, so that nobody acts beyond `stop_at`.
            now = (before.round, before.phase)
            acting = [(m, v) for m, v in acting if v.selected and not v.answered and (v.round, v.phase) == now]
            for member, view in acting:
                self.act(member, view)
            if not acting:
                self.view(wait=5, after=before.event)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def environment(data_dir: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
    return plain | {
        "PYTHONPATH": str(ROOT),
        "COORDINATOR_DATA_DIR": str(data_dir),
        "COORDINATOR_OPERATOR_TOKEN": OPERATOR,
        "COORDINATOR_INVITATION_TOKEN": INVITATION,
        "COORDINATOR_MAX_BODY_BYTES": str(LIMIT),
    }


def launch(port: int, environment: dict[str, str]) -> "subprocess.Popen[str]":
    target = ["services.coordinator.app:create_app", "--factory", "--port", str(port), "--log-level", "warning"]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *target],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
