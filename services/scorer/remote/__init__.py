"""Another server's model behind the same calls: any server with an OpenAI-compatible API.

`client` asks, `retries` asks again, `questions` writes the prompts, `answers` reads the replies, `budget` holds the
cost cap, `access` the address and key, and `failures` says what a failure means to our caller.
"""
