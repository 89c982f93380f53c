"""Readouts: what is made of the hidden states at a prompt's reads.

Only the vocabulary rows that a readout looks at are computed with a gradient. The probability of one of them among all
tokens needs the whole vocabulary's normaliser, which is computed in parts and without a gradient.

Shapes: E reads, H hidden, V vocabulary, B prompts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

LOGITS = 1 << 25
"""Logits that are held at once."""

DIGITS = [str(digit) for digit in range(10)]
"""The answers that `number` looks at."""


class Vocabulary:
    """The model's output embeddings, [V, H]."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach()
        self.exact = torch.promote_types(weight.dtype, torch.float32)

    def rows(self, tokens: Tensor) -> Tensor:
        """The output embeddings of some tokens, at least float32."""
        return self._weight[tokens.to(self._weight.device)].to(self.exact)

    def normaliser(self, states: Tensor) -> Tensor:
        """Log of the sum over the vocabulary of exp(logit), [E]."""
        part = max(1, LOGITS // len(self._weight))
        states = states.to(self._weight.device, self._weight.dtype)
        return torch.cat([self._logsumexp(some) for some in states.split(part)])

    def _logsumexp(self, states: Tensor) -> Tensor:
        # In place: logits are by far the largest numbers of a readout.
        logits = (states @ self._weight.T).to(self.exact)
        highest = logits.amax(1, keepdim=True)
        return logits.sub_(highest).exp_().sum(1).log_() + highest[:, 0]


@dataclass(frozen=True)
class Read:
    """What a readout makes of its reads, [B] each; `masses` and `probabilities` where it has them."""

    scores: Tensor
    probabilities: Tensor | None = None
    masses: Tensor | None = None


class Verdict:
    """logit(first label) - logit(second label) at the prompt's end."""

    def __init__(self, vocabulary: Vocabulary, tokens: Tensor) -> None:
        self._labels = vocabulary.rows(tokens)

    def scores(self, states: Tensor) -> Tensor:
        """[B], with a gradient; `states` is [B, H]."""
        logits = states.to(self._labels) @ self._labels.T
        return logits[:, 0] - logits[:, 1]

    def read(self, states: Tensor, normaliser: Tensor) -> Read:
        """All that is told of each prompt."""
        logits = states.to(self._labels) @ self._labels.T
        scores = logits[:, 0] - logits[:, 1]
        return Read(scores, scores.sigmoid(), _mass(logits, normaliser))


class Number:
    """The expectation of the digit that the model writes: sum of d p(d), among digits (0 to 9)."""

    def __init__(self, vocabulary: Vocabulary, tokens: Tensor) -> None:
        self._digits = vocabulary.rows(tokens)

    def scores(self, states: Tensor) -> Tensor:
        """[B], with a gradient; `states` is [B, H]."""
        return self._expected(states.to(self._digits) @ self._digits.T)

    def read(self, states: Tensor, normaliser: Tensor) -> Read:
        """All that is told of each prompt."""
        logits = states.to(self._digits) @ self._digits.T
        return Read(self._expected(logits), masses=_mass(logits, normaliser))

    def _expected(self, logits: Tensor) -> Tensor:
        values = torch.arange(len(DIGITS), dtype=logits.dtype, device=logits.device)
        return logits.softmax(1) @ values


class Likelihood:
    """Mean log-probability of the tokens that are asked for, given all before them."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def read(self, states: Tensor, normaliser: Tensor, targets: Tensor, readers: Tensor, prompts: int) -> Read:
        """Scores from one read a token.

        Args:
            states: [E, H].
            normaliser: [E].
            targets: int64 [E], the token that follows each read.
            readers: int64 [E], whose read it is.
            prompts: B.
        """
        rows = self._vocabulary.rows(targets)
        found = (states.to(rows) * rows).sum(1) - normaliser.to(rows)
        sums = found.new_zeros(prompts).index_add_(0, readers, found)
        return Read(sums / torch.bincount(readers, minlength=prompts))


Readers = Verdict | Number | Likelihood


def _mass(logits: Tensor, normaliser: Tensor) -> Tensor:
    """Probability of one of these tokens; in half precision the two may disagree by a little more than nothing."""
    return (logits.logsumexp(1) - normaliser.to(logits)).exp().clamp(max=1.0)
