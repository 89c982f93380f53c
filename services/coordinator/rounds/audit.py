"""Reading the audit log; `queries.record` writes it."""

from sqlalchemy import select

from protocol.members import Audit, AuditEntry
from services.coordinator.rounds.times import moment
from services.coordinator.store.schema import AuditRow
from services.coordinator.store.store import Store


def audit_log(store: Store, before: int | None, limit: int) -> Audit:
    """At most `limit` entries numbered below `before`, newest first."""
    rows = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit + 1)
    if before is not None:
        rows = rows.where(AuditRow.number < before)
    with store.database.read() as session:
        page = session.scalars(rows).all()
    entries = [
        AuditEntry(
            number=row.number,
            at=moment(row.at),
            who=row.who,
            did=row.did,
            round=row.round,
            subject=row.subject,
            digest=row.digest,
        )
        for row in page[:limit]
    ]
    return Audit(entries=entries, next_before=page[limit - 1].number if len(page) > limit else None)
