"""How a database comes to the present tables, by Alembic: at every start, under a lock, from whatever version it has.

A change of `schema` is a new file in `versions`, which a test compares with the tables.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

FOLDER = Path(__file__).parent


class Unknown(Exception):
    """The database is of no version that this program knows."""


def upgrade(connection: Connection) -> None:
    """Bring the database of a connection, in its transaction, to the present tables.

    Raises:
        Unknown: A later program made it, or none that kept versions.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))  # configparser's own sign
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_revision()
    if present is None and inspect(connection).get_table_names():
        raise Unknown(
            "it holds tables and no version of them, so this program did not make it; give another one, or begin anew"
        )
    if present is not None and present not in known:
        raise Unknown(f"a later version of the coordinator made it (its tables are at {present}); start that one")
    command.upgrade(config, "head")
