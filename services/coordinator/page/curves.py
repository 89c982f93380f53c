"""A training by its rounds: loss, validation metrics and bytes, of each client and of all of them."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from protocol.problems import NotFound
from protocol.rounds import Evaluation
from protocol.trainings import Sides
from protocol.watching import ClientCurve, Curves, Point
from services.coordinator.page.rounds import first_number, is_partly_evaluated
from services.coordinator.rounds.means import mean_evaluation, mean_loss
from services.coordinator.store import queries
from services.coordinator.store.schema import Client, EvaluationRow, Round, Training, Update
from services.coordinator.store.store import Store

Sent = dict[int, list[Update]]
Told = dict[int, dict[str, Evaluation]]
MOST_POINTS = 20_000
"""In a reply: of all clients together."""


def curves(store: Store, training: str | None, after: int, most_points: int = MOST_POINTS) -> Curves:
    """The rounds of a training (the latest unless named) with numbers above `after`, as many as a reply holds.

    Raises:
        NotFound: There is no such training.
    """
    with store.database.read() as session:
        found = queries.latest_training(session) if training is None else queries.named_training(session, training)
        if found is None:
            raise NotFound("there is no training yet; GET /rounds lists them")
        most = max(1, most_points // (1 + session.scalars(select(func.count()).select_from(Client)).one()))
        of = select(Round).where(Round.training == found.id, Round.number > after).order_by(Round.number)
        further = session.scalars(of.limit(most + 1)).all()
        rounds = further[:most]
        sent, told = _sent(session, rounds), _told(session, rounds)
        side, open_ = found.fixed().local.sides, first_number(session, found) + found.rounds_done
        return Curves(
            training=found.id,
            sides=side,
            points=[
                _mean_point(each, found, sent[each.number], told[each.number], each.number < open_) for each in rounds
            ],
            clients=_clients(session, rounds, sent, told, side),
            next_after=max((each.number for each in rounds if each.closed is not None), default=after),
            more=len(further) > most,
        )


def _sent(session: Session, rounds: Sequence[Round]) -> Sent:
    sent: Sent = defaultdict(list)
    for update in session.scalars(select(Update).where(_among(Update.round, rounds))):
        sent[update.round].append(update)
    return sent


def _told(session: Session, rounds: Sequence[Round]) -> Told:
    told: Told = defaultdict(dict)
    of = select(EvaluationRow).where(_among(EvaluationRow.round, rounds), *queries.DECIDES)
    for row in session.scalars(of):
        told[row.round][row.client] = Evaluation.model_validate_json(row.content)
    return told


def _among(number: InstrumentedAttribute[int], rounds: Sequence[Round]) -> ColumnElement[bool]:
    """Whether a row is of these rounds, which follow one another: no other training has a number in between."""
    first, last = (rounds[0].number, rounds[-1].number) if rounds else (0, -1)
    return number.between(first, last)


def _clients(session: Session, rounds: Sequence[Round], sent: Sent, told: Told, side: Sides) -> list[ClientCurve]:
    """The curves of all that sent anything in these rounds."""
    curves = []
    by_round = {number: {update.client: update for update in updates} for number, updates in sent.items()}
    for client, name in session.execute(select(Client.id, Client.name).order_by(Client.joined, Client.id)):
        points = []
        for number in (each.number for each in rounds):
            update, evaluation = by_round.get(number, {}).get(client), told[number].get(client)
            if update or evaluation:
                points.append(_point(number, [update] if update else [], evaluation, side))
        if points:
            curves.append(ClientCurve(client=client, name=name, points=points))
    return curves


def _mean_point(
    round: Round, training: Training, updates: list[Update], told: dict[str, Evaluation], done: bool
) -> Point:
    """Of all clients. A mean over those that happen to have answered, so far or when it was stopped, is left out."""
    side = training.fixed().local.sides
    point = _point(round.number, updates, None, side)
    if not done:
        point = point.model_copy(update={"loss": None})
    if not told or is_partly_evaluated(round, training):
        return point
    metrics = mean_evaluation(list(told.values())).sides[side]
    return point.model_copy(update={"mrr": metrics.mrr, "hits_at_10": metrics.hits_at_10})


def _point(number: int, updates: list[Update], evaluation: Evaluation | None, side: Sides) -> Point:
    metrics = evaluation and evaluation.sides[side]
    return Point(
        round=number,
        loss=mean_loss(updates),
        bytes=sum(update.size for update in updates),
        mrr=metrics and metrics.mrr,
        hits_at_10=metrics and metrics.hits_at_10,
    )
