"""The client: graphs, interactions, local training, evaluation, federation, and the command line.

Reads from the bottom up: `graph` and `answers` hold triples, `interactions` score them, `model`, `losses` and
`training` train, `ranking` and `fusion` evaluate, `reranking` lets a `judge` order `shortlists`, `scorer` and
`coordinator` speak to the services through `service`, `home`, `keys` and `checkpoints` are what a client keeps,
`membership` joins and leaves, `sharing` says what goes to the coordinator, `federation` takes part in rounds and
`conclusion` ends them, `alone` trains without a coordinator, `experiments` runs everything on one machine and makes
tables of it, of which `demo` is the smallest, `commands` is what the command line of `cli` does.
"""
