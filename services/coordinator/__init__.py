"""The coordinator: a FastAPI service that keeps the global embeddings and the state of the rounds (FedE).

Routes (`routes`) call plain functions (`joining`, `trainings`, `updates`, `evaluations`, `versions`, `views`), which
work on a `store`. One background `worker` calls `rounds.advance`, which opens and closes rounds.
"""
