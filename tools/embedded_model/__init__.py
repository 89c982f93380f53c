"""Trains the embedded model: a small LLaMA and its tokenizer, from a file of titles and texts.

`corpus` reads the file and holds a part of it out; `questions` makes instruction text of the rest; `tokenizer` learns
the vocabulary; `rows` cuts everything into rows of tokens; `training` trains on them, with `checkpoints`; `heldout`
tells how well the part that was held out is read. `recipe` holds every number.

Run: `python -m tools.embedded_model CORPUS FOLDER`. What a corpus looks like is told in docs/embedded-model.md.
"""
