"""Messages of the page: who may open it, and the curves that it draws."""

from datetime import datetime
from typing import Literal

from pydantic import Field, SecretStr

from protocol.messages import Strict
from protocol.trainings import Sides

WatcherRole = Literal["operator", "viewer"]


class SignIn(Strict):
    """The body of `POST /session`."""

    token: SecretStr = Field(
        max_length=1_000, description="The operators' token, or a viewer's pass, as `POST /session/pass` gives."
    )


class SessionReply(Strict):
    """Who the browser speaks for from now on; the session itself is in a cookie that no script reads."""

    role: WatcherRole = Field(description="A viewer sees the page and the history, and changes nothing.")
    expires: datetime


class Pass(Strict):
    """A viewer's pass: whoever has it may watch until it expires."""

    token: str = Field(description="Behind the page's address as `#pass=TOKEN`, it is a link that opens the page.")
    expires: datetime


class Point(Strict):
    """A round on a curve: of one client, or of all of them."""

    round: int
    loss: float | None = Field(description="Mean training loss of the updates; null where there is none.")
    bytes: int = Field(description="Of the updates.")
    mrr: float | None = Field(description="Of the version on validation triples; null where it was not evaluated.")
    hits_at_10: float | None


class ClientCurve(Strict):
    """What one client reported."""

    client: str
    name: str
    points: list[Point] = Field(description="Rounds in which it sent something, the oldest first.")


class Curves(Strict):
    """`GET /curves`: a training by its rounds, the oldest first."""

    training: str
    sides: Sides = Field(description="The side that MRR and Hits@10 are of: what the training learns.")
    points: list[Point] = Field(description="Loss weighted by training triples, metrics by validation triples (FedE).")
    clients: list[ClientCurve] = Field(description="In the order of joining.")
    next_after: int = Field(description="Pass as `after` for what has come since; the open round comes again.")
    more: bool = Field(description="Further rounds are there already, which this reply has no room for.")
