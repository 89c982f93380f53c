"""A small corpus, made in code: titles of made-up words, and texts that mention one another."""

import random
from pathlib import Path

from tools.embedded_model.corpus import Entry

SYLLABLES = ("ka", "lo", "mi", "ren", "tas", "vu", "shel", "dor")


def word(random_: random.Random) -> str:
    return "".join(random_.choice(SYLLABLES) for _ in range(3)).capitalize()


def entries(count: int = 400) -> list[Entry]:
    """Each text tells of the title and mentions two others."""
    random_ = random.Random(0)
    titles = list(dict.fromkeys(word(random_) for _ in range(count)))
    found = []
    for title in titles:
        first, second = random_.sample(titles, 2)
        found.append(
            Entry("tales", title, f"a town on the road from {first} to {second}; in winter few people pass it")
        )
        found.append(Entry("maps", title, f"{title} lies north of {first}, where the river bends"))
    return found


def write(path: Path, given: list[Entry]) -> Path:
    path.write_text("".join(f"{e.source}\t{e.title}\t{e.text}\n" for e in given), encoding="utf-8")
    return path
