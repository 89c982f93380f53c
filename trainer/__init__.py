"""The client: graphs, interactions, local training, evaluation, federation, and the command line.

Reads from the bottom up: `graph` and `answers` hold triples, `interactions` score them, `model`, `losses` and
`training` train, `ranking` and `fusion` evaluate, `scorer` and `coordinator` speak to the services, `federation` takes
part in rounds, `demo` runs everything on one machine, `cli` is the command line.
"""
