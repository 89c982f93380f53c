"""The model at work: from calls to prompts, trees of prompts, a forward pass over them, and gradients.

In the order of the work: `words` cuts text into tokens, `prompts` lays a call's input vectors out, `trees` finds what
prompts share, `plans` makes a call's prompts, `tasks` are calls under way, `forest` puts trees together, `forward` and
`attention` run the layers, `readouts` and `losses` make numbers of states, `kept` holds what a gradient call may use,
and `engine` ties them.
"""
