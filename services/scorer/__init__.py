"""The scorer: one frozen LLaMA behind HTTP, which scores triples, encodes queries and returns gradients.

`app` holds the routes, `wire` reads and writes bodies, `engine` runs the model, `worker` is where calls wait.
"""
