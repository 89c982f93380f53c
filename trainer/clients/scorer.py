"""The scorer's routes as typed calls."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel

from protocol import tensors
from protocol.encoding import EncodeGradientReply, EncodeGradientRequest, EncodeReply, EncodeRequest
from protocol.info import Info
from protocol.messages import ScoreReadout
from protocol.ranking import RankReply, RankRequest
from protocol.scoring import NamedTriple, ScoreGradientReply, ScoreGradientRequest, ScoreReply, ScoreRequest
from trainer.clients.service import Service
from trainer.reports import Report, unheard

Reply = TypeVar("Reply", bound=BaseModel)


class Scorer:
    """A scorer service. A context manager: leaving it closes the connections.

    Raises (every call):
        ServiceUnreachable, ProblemError: As `Service` says.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    @classmethod
    def at(cls, url: str, key: str | None = None, report: Report = unheard) -> Self:
        """The scorer at an address.

        Args:
            url: As `http://127.0.0.1:8000`.
            key: Its API key, where it has one.
            report: Told when a call has to be tried again.

        Raises:
            AddressWrong: The address is not a URL.
        """
        return cls(Service("scorer", url, key, report))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.service.close()

    def info(self) -> Info:
        """What is loaded, and every limit."""
        return Info.model_validate_json(self.service.json("GET", "/info"))

    def score_names(
        self, triples: Iterable[tuple[str, str, str]], readout: ScoreReadout = "verdict", template: str | None = None
    ) -> ScoreReply:
        """Scores of triples (head, relation, tail) that are given by their names."""
        named = [NamedTriple(head=head, relation=relation, tail=tail) for head, relation, tail in triples]
        return self.score(ScoreRequest(triples=list(named), readout=readout, template=template))

    def score(self, request: ScoreRequest) -> ScoreReply:
        """Scores of triples, by names, descriptions or vectors."""
        return self._post("/score", request, ScoreReply)

    def score_gradient(self, request: ScoreGradientRequest) -> ScoreGradientReply:
        """Scores, and gradients with respect to the vectors sent."""
        return self._post("/score/gradient", request, ScoreGradientReply)

    def rank(self, request: RankRequest) -> RankReply:
        """The best of given candidates for a query."""
        return self._post("/rank", request, RankReply)

    def encode(self, request: EncodeRequest) -> EncodeReply:
        """A hidden state for each query."""
        return self._post("/encode", request, EncodeReply)

    def encode_gradient(self, request: EncodeGradientRequest) -> EncodeGradientReply:
        """Gradients with respect to the vectors sent, of given gradients of the states."""
        return self._post("/encode/gradient", request, EncodeGradientReply)

    def tensors(
        self, path: str, body: bytes, specs: Mapping[str, tensors.TensorSpec], sizes: Mapping[str, int]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Any of these routes with a safetensors body: about a tenth of the same numbers as JSON.

        Args:
            path: The route.
            body: As `protocol.tensors.encode` writes it.
            specs: The reply's tensors, as `protocol.scoring` and `protocol.encoding` name them.
            sizes: Of the dimensions that are known.

        Returns:
            The reply's tensors, and its message.
        """
        return tensors.decode(self.service.tensors("POST", path, body), specs, sizes)

    def _post(self, path: str, request: BaseModel, reply: type[Reply]) -> Reply:
        body = request.model_dump_json(exclude_none=True, exclude_defaults=True)
        return reply.model_validate_json(self.service.json("POST", path, body))
