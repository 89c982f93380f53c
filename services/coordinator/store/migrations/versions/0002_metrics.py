"""Evaluations hold more metrics: those that a client reported before are of no use, and go.

Which version was best, and its MRR, stand in the training.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Empty the table; what is still being evaluated is asked for again."""
    op.execute("DELETE FROM evaluations")
