"""Files of others that triples are read from, one format a module; `trainer.dataset` chooses among them."""
