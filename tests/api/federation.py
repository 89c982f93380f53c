"""A coordinator kept in the state that an operation needs, and what only a living federation knows: ids, keys, rows."""

import itertools
import json
from collections.abc import Callable

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from schemathesis import Case

from protocol.signatures import Signer, content_digest
from tests.api.calling import TENSORS, is_valid
from tests.coordinator.support import INVITATION, OPERATOR, Member, Server, evaluation, members


class Federation:
    """Two members, and further ones that operations use up."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.crowd = members(2, 2)
        server.join(*self.crowd)
        self._numbers = itertools.count(100)
        self._aims: dict[str, Callable[[Case], None]] = {
            "POST /round": lambda case: self._stop(),
            "POST /round/pause": lambda case: self._train(),
            "POST /round/resume": lambda case: self._pause(),
            "POST /round/stop": lambda case: self._train(),
            "POST /clients": self._join,
            "DELETE /clients/{client}": self._remove,
            "PUT /clients/{client}/key": self._rotate,
            "GET /round/{number}/embeddings": self._fetch,
            "PUT /round/{number}/update": self._update,
            "PUT /round/{number}/evaluation": self._evaluate,
            "GET /model": self._model,
            "GET /rounds": self._training,
            "GET /curves": self._training,
            "GET /": self._page,
            "POST /session": lambda case: self._body(case, {"token": OPERATOR}),
        }
        self.signer: Signer = self.crowd[0].signer
        self._train()

    def aim(self, case: Case) -> None:
        """Bring the coordinator into the state that a valid case needs, and the case to what is there."""
        self.signer = self.crowd[0].signer
        if is_valid(case) and (aimed := self._aims.get(case.operation.label)):
            aimed(case)

    def headers(self, case: Case) -> Callable[[requests.PreparedRequest], dict[str, str]]:
        """What shows who calls: a signature where clients alone may call, else the operators' token."""

        def shown(request: requests.PreparedRequest) -> dict[str, str]:
            label = case.operation.label
            if label == "POST /clients":
                return self._signed(request) | {"Authorization": f"Bearer {INVITATION}"}
            if "/round/{number}" in label or label.endswith("/key"):
                return self._signed(request)
            return {"Authorization": f"Bearer {OPERATOR}"}

        return shown

    def _signed(self, request: requests.PreparedRequest) -> dict[str, str]:
        body = request.body or b""
        digest = content_digest(body.encode() if isinstance(body, str) else body)
        return self.signer.headers(str(request.method), str(request.url), digest)

    def _stop(self) -> None:
        if self.server.view().phase not in ("idle", "finished"):
            self.server.operator("POST", "/round/stop")

    def _train(self) -> None:
        """A training whose first round waits for updates."""
        self._stop()
        self.server.begin(clients=2, rounds=3)
        view = self.server.view()
        while view.phase != "training":
            view = self.server.view(wait=5, after=view.event)

    def _pause(self) -> None:
        self._train()
        self.server.operator("POST", "/round/pause")

    def _newcomer(self) -> Member:
        return Member(f"n{next(self._numbers)}", ["e1", "e2"])

    def _join(self, case: Case) -> None:
        self._stop()
        self.signer = Signer(Ed25519PrivateKey.generate())
        self._body(case, {"public_key": self.signer.public_key})

    def _remove(self, case: Case) -> None:
        leaving = self._newcomer()
        self._stop()
        self.server.join(leaving)
        case.path_parameters["client"] = leaving.id

    def _rotate(self, case: Case) -> None:
        changing, following = self._newcomer(), Signer(Ed25519PrivateKey.generate())
        self._stop()
        self.server.join(changing)
        self.signer = changing.signer
        case.path_parameters["client"] = changing.id
        proof = following.prove(changing.id)
        self._body(case, {"public_key": following.public_key, "proof": proof})

    def _fetch(self, case: Case) -> None:
        self._train()
        case.path_parameters["number"] = self.server.view().round

    def _update(self, case: Case) -> None:
        self._fetch(case)
        number = self.server.view().round
        assert number is not None
        TENSORS[case.id] = self.crowd[0].trained(self.server.share(self.crowd[0], number))

    def _evaluate(self, case: Case) -> None:
        """Of the best version of a training that is over."""
        self._train()
        self._stop()
        case.path_parameters["number"] = self.server.view().best_version
        self._body(case, json.loads(evaluation(0.5).model_dump_json()))

    def _training(self, case: Case) -> None:
        if "training" in case.query:
            case.query["training"] = self.server.view().training

    def _model(self, case: Case) -> None:
        self._train()
        self._stop()
        self._training(case)

    def _page(self, case: Case) -> None:
        self._training(case)
        if "other" in case.query:
            case.query["other"] = self.server.view().training

    def _body(self, case: Case, fields: dict[str, object]) -> None:
        if isinstance(case.body, dict):
            case.body = case.body | fields
