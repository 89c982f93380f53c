"""The scorer: one frozen LLaMA behind HTTP, which scores triples, encodes queries and returns gradients.

`app` holds the routes, `service` what each does, `wire` reads and writes bodies, `backends` are what answers: `model`
loads a LLaMA, `engine` runs it, `worker` is where calls wait for it, and `remote` asks another server instead.
"""
