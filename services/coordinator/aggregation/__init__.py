"""How a round's updates become the next version: one file a family of strategies, and the walk over the tables."""
