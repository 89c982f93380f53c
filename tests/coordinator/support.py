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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.members import JoinRequest
from protocol.rounds import Evaluation, Metrics, RoundView, UpdateReceipt
from protocol.signatures import Signer, content_digest
from protocol.tensors import Array, decode, encode
from protocol.trainings import WIRE_DTYPES, TrainingSettings, model_tensors
from services.coordinator.identity.joining import join
from services.coordinator.rounds.advance import advance
from services.coordinator.rounds.evaluations import accept_evaluation
from services.coordinator.rounds.shares import client_share
from services.coordinator.rounds.trainings import start_training
from services.coordinator.rounds.updates import accept_update, admission, standing_receipt
from services.coordinator.rounds.views import Views
from services.coordinator.store.store import Store
from tests.declared import declared

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
    """A client whose entities are given by name, and whose updates are a function of what it fetched.

    Its key is a function of its name, so that two runs have the same clients.
    """

    name: str
    entities: list[str]
    triples: dict[str, int] = field(default_factory=lambda: {"train": 10, "valid": 2, "test": 2})
    relations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signer = signer(self.name)

    @property
    def id(self) -> str:
        return self.signer.key_id

    def request(self) -> JoinRequest:
        return JoinRequest(
            name=self.name,
            public_key=self.signer.public_key,
            entities=[key(entity) for entity in self.entities],
            relations=[key("relation " + relation) for relation in self.relations],
            triples={"valid": 0, "test": 0} | self.triples,
        )

    def trained(self, share: dict[str, Array], step: float | None = None, dtype: str = "F32") -> bytes:
        """The update after "training": everything moves by the step, or by a number that the name gives."""
        move = np.float32(int(key(self.name)[:4], 16) / 65536 if step is None else step)
        return self.body({name: tensor + move for name, tensor in share.items()}, dtype)

    def body(self, tensors: dict[str, Array], dtype: str = "F32", **header: object) -> bytes:
        return encode(tensors, {"triples": self.triples["train"], "loss": 0.5} | header, dtype)


def signer(name: str) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"key of {name}".encode()).digest()))


def members(*sizes: int) -> list[Member]:
    """Members m0, m1, …: the i-th holds entities e_i, e_i+1, … so that neighbours overlap."""
    return [Member(f"m{i}", [f"e{i + j}" for j in range(size)]) for i, size in enumerate(sizes)]


def evaluation(mrr: float, triples: int = 2, mode: str = "federation", split: str = "valid") -> Evaluation:
    hits = {"hits@1": mrr / 2, "hits@3": mrr, "hits@5": mrr, "hits@10": mrr}
    metrics = Metrics.model_validate({"mrr": mrr, **hits, "mr": 2.0, "amri": mrr - 1, "mrr_gap": 0.0})
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
            join(self.store, member.request())
        advance(self.store)

    def view(self, member: Member | None = None) -> RoundView:
        return Views(self.store).now().view(member and member.id)

    def share(self, member: Member, version: int | None = None) -> dict[str, Array]:
        view = self.view()
        assert view.settings is not None
        number = version or view.round
        assert number is not None
        specs = model_tensors(view.settings, len(member.entities), len(member.relations))
        share = client_share(self.store, member.id, number)
        return writable(decode(b"".join(share.pieces()), specs)[0])

    def send(self, member: Member, step: float | None = None, round: int | None = None) -> UpdateReceipt:
        number = round or self.view().round
        assert number is not None
        fixed = self.view().settings
        assert fixed is not None
        body = member.trained(self.share(member), step, WIRE_DTYPES[fixed.wire_dtype])
        receipt, _ = self.put(member, number, body)
        advance(self.store)
        return receipt

    def put(self, member: Member, number: int, body: bytes) -> tuple[UpdateReceipt, bool]:
        """What `PUT /round/{n}/update` does, without advancing the round."""
        digest = hashlib.sha256(body).hexdigest()
        if receipt := standing_receipt(self.store, member.id, number, digest):
            return receipt, False
        admitted = admission(self.store, member.id, number)
        file = self.store.blobs.temporary()
        file.write_bytes(body)
        try:
            return accept_update(self.store, member.id, member.signer.key_id, number, admitted, file, digest)
        finally:
            file.unlink(missing_ok=True)

    def report(self, member: Member, mrr: float, **kind: object) -> None:
        number = self.view().round
        assert number is not None
        accept_evaluation(
            self.store, member.id, member.signer.key_id, number, evaluation(mrr, member.triples["valid"], **kind)
        )
        advance(self.store)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        advance(self.store)

    def selected(self, among: list[Member]) -> list[Member]:
        return [member for member in among if self.view(member).selected]


class Server:
    """A coordinator in a process of its own, driven over HTTP."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir, self._environment = data_dir, environment
        self.http = httpx.Client(timeout=20, trust_env=False, event_hooks=declared("coordinator"))
        self.start()

    def start(self, **environment: str) -> None:
        """Start on a free port. Another process may take the port before the server does: then on another."""
        errors = []
        for _ in range(3):
            port = free_port()
            self.process = launch(port, settings_of(self.data_dir) | self._environment | environment)
            self.http.base_url = httpx.URL(f"http://127.0.0.1:{port}")
            if self._becomes_ready():
                return
            self.process.kill()
            errors.append(self.process.communicate()[1])
        self.http.close()
        raise RuntimeError(f"the server did not become ready: {errors}")

    def _becomes_ready(self) -> bool:
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.http.get("/ready").is_success:
                    return True
            except httpx.TransportError:
                time.sleep(0.05)
        return False

    def close_connections(self) -> None:
        """Forget connections to a process that is no more."""
        self.process.communicate(timeout=20)
        base = self.http.base_url
        self.http.close()
        self.http = httpx.Client(base_url=base, timeout=20, trust_env=False, event_hooks=declared("coordinator"))

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.http.close()

    def _end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def operator(self, method: str, path: str, body: object = None, **query: object) -> httpx.Response:
        """A call with the operators' token."""
        return self.http.request(method, path, headers=bearer(OPERATOR), json=body, params=query)

    def signed(
        self,
        who: Member | Signer,
        method: str,
        path: str,
        body: bytes = b"",
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """A call that the member signs."""
        request = self.request(who, method, path, body, media_type, headers)
        return self.http.send(request)

    def request(
        self,
        who: Member | Signer,
        method: str,
        path: str,
        body: bytes = b"",
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> httpx.Request:
        """A signed request that is not sent."""
        key = who.signer if isinstance(who, Member) else who
        request = self.http.build_request(method, path, content=body or None, headers=headers)
        if method in ("POST", "PUT"):
            request.headers["content-type"] = media_type
        request.headers.update(key.headers(method, str(request.url), content_digest(body)))
        return request

    def put_join(self, member: Member, token: str | None = INVITATION) -> httpx.Response:
        body = member.request().model_dump_json().encode()
        return self.signed(member, "POST", "/clients", body, headers=bearer(token) if token else None)

    def join(self, *joining: Member) -> None:
        for member in joining:
            reply = self.put_join(member)
            assert reply.status_code == 201, reply.text
            assert reply.json()["client"] == member.id

    def begin(self, **changes: object) -> str:
        reply = self.operator("POST", "/round", settings(**changes).model_dump(mode="json"))
        assert reply.status_code == 201, reply.text
        return str(reply.json()["training"])

    def view(self, member: Member | None = None, **query: float) -> RoundView:
        path = "/round?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else "/round"
        reply = self.signed(member, "GET", path) if member else self.operator("GET", path)
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
        reply = self.signed(member, "GET", f"/round/{number}/embeddings")
        assert reply.status_code == 200, reply.text
        fixed = self.view().settings
        assert fixed is not None
        return writable(decode(reply.content, model_tensors(fixed, len(member.entities), len(member.relations)))[0])

    def put_update(self, member: Member, number: int, body: bytes) -> httpx.Response:
        return self.signed(member, "PUT", f"/round/{number}/update", body, "application/safetensors")

    def put_evaluation(self, member: Member, number: int, content: Evaluation) -> httpx.Response:
        return self.signed(member, "PUT", f"/round/{number}/evaluation", content.model_dump_json().encode())

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
            acting = [(member, self.view(member)) for member in crowd]
            # The round may have closed since; then look again, so that nobody acts beyond `stop_at`.
            now = (before.round, before.phase)
            acting = [(m, v) for m, v in acting if v.selected and not v.answered and (v.round, v.phase) == now]
            for member, view in acting:
                self.act(member, view)
            if not acting:
                self.view(wait=5, after=before.event)


def writable(tensors: dict[str, Array]) -> dict[str, Array]:
    return {name: tensor.copy() for name, tensor in tensors.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def settings_of(data_dir: Path) -> dict[str, str]:
    return {
        "COORDINATOR_DATA_DIR": str(data_dir),
        "COORDINATOR_OPERATOR_TOKEN": OPERATOR,
        "COORDINATOR_INVITATION_TOKEN": INVITATION,
        "COORDINATOR_MAX_BODY_BYTES": str(LIMIT),
    }


def launch(port: int, environment: dict[str, str]) -> "subprocess.Popen[str]":
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COORDINATOR_")}
    target = ["services.coordinator.app:create_app", "--factory", "--port", str(port), "--log-level", "warning"]
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *target],
        env=plain | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
