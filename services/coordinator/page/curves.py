"""A training by its rounds: loss, validation metrics and bytes, of each client and of all of them."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from protocol.problems import NotFound
from protocol.rounds import Evaluation
from protocol.trainings import Sides
from protocol.watching import ClientCurve, Curves, Point
from services.coordinator.rounds.means import mean_evaluation, mean_loss
from services.coordinator.store import queries
from services.coordinator.store.schema import Client, EvaluationRow, Round, Training, Update
from services.coordinator.store.store import Store

Sent = dict[int, list[Update]]
Told = dict[int, dict[str, Evaluation]]


def curves(store: Store, training: str | None, after: int) -> Curves:
    """The rounds of a training (the latest unless named) with numbers above `after`.

    Raises:
        NotFound: There is no such training.
    """
    with store.database.read() as session:
        found = queries.latest_training(session) if training is None else queries.named_training(session, training)
        if found is None:
            raise NotFound("there is no training yet; GET /rounds lists them")
        of = select(Round).where(Round.training == found.id, Round.number > after).order_by(Round.number)
        rounds = session.scalars(of).all()
        sent, told = _sent(session, found, after), _told(session, found, after)
        side = found.fixed().local.sides
        return Curves(
            training=found.id,
            sides=side,
            points=[_mean_point(each, sent[each.number], told[each.number], side) for each in rounds],
            clients=_clients(session, rounds, sent, told, side),
            next_after=max((each.number for each in rounds if each.closed is not None), default=after),
        )


def _sent(session: Session, training: Training, after: int) -> Sent:
    of = select(Update).join(Round, Round.number == Update.round)
    sent: Sent = defaultdict(list)
    for update in session.scalars(of.where(Round.training == training.id, Round.number > after)):
        sent[update.round].append(update)
    return sent


def _told(session: Session, training: Training, after: int) -> Told:
    of = select(EvaluationRow).join(Round, Round.number == EvaluationRow.round)
    told: Told = defaultdict(dict)
    for row in session.scalars(of.where(Round.training == training.id, Round.number > after, *queries.DECIDES)):
        told[row.round][row.client] = Evaluation.model_validate_json(row.content)
    return told


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


def _mean_point(round: Round, updates: list[Update], told: dict[str, Evaluation], side: Sides) -> Point:
    """Of all clients. A mean over those that happen to have answered so far would jump as others do: it is left out."""
    point = _point(round.number, updates, None, side)
    if round.closed is None:
        point = point.model_copy(update={"loss": None})
    if not told or (round.phase == "evaluating" and round.closed is None):
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
