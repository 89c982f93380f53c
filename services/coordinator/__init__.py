"""The coordinator: a FastAPI service that keeps the global embeddings and the state of the rounds (FedE).

Routes (`routes`) learn who calls (`identity`) and call plain functions (`rounds`), which work on a `store`. One
background worker advances the rounds, and has `aggregation` make each version of the updates of the round before.
"""
