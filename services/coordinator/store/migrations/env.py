"""What Alembic runs: the migrations, on the connection that `upgrade` has put into the configuration."""

from alembic import context

from services.coordinator.store.schema import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
context.run_migrations()
