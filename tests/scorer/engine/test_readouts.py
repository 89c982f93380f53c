import pytest
import torch
from torch import Tensor

from services.scorer.engine import readouts
from services.scorer.engine.readouts import Likelihood, Number, Verdict, Vocabulary

from ..models import difference

HIDDEN, WORDS = 8, 50


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT = drawn(1, WORDS, HIDDEN)
STATES = drawn(2, 6, HIDDEN)
LOGITS = STATES @ WEIGHT.T
DIGITS = torch.tensor([7, 3, 40, 21, 9, 11, 2, 30, 17, 5])
VOCABULARY = Vocabulary(WEIGHT)


@pytest.mark.parametrize("at_once", [1, 3 * WORDS, 1 << 25])
def test_the_normaliser_is_over_the_whole_vocabulary_however_it_is_cut(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readouts, "LOGITS", at_once)
    assert difference(VOCABULARY.normaliser(STATES), LOGITS.logsumexp(1)) < 1e-12


def test_a_verdict_compares_two_logits_and_tells_their_probabilities() -> None:
    verdict = Verdict(VOCABULARY, torch.tensor([12, 4]))
    found = verdict.read(STATES, VOCABULARY.normaliser(STATES))
    p = LOGITS.softmax(1)
    assert difference(found.scores, LOGITS[:, 12] - LOGITS[:, 4]) < 1e-12
    assert difference(found.scores, verdict.scores(STATES)) == 0
    assert found.probabilities is not None
    assert found.masses is not None
    assert difference(found.probabilities, p[:, 12] / (p[:, 12] + p[:, 4])) < 1e-12
    assert difference(found.masses, p[:, 12] + p[:, 4]) < 1e-12


def test_a_number_is_the_digits_expectation_among_digits() -> None:
    number = Number(VOCABULARY, DIGITS)
    found = number.read(STATES, VOCABULARY.normaliser(STATES))
    p = LOGITS.softmax(1)[:, DIGITS]
    assert difference(found.scores, (p * torch.arange(10)).sum(1) / p.sum(1)) < 1e-12
    assert difference(found.scores, number.scores(STATES)) == 0
    assert found.masses is not None
    assert difference(found.masses, p.sum(1)) < 1e-12
    assert found.probabilities is None


def test_a_likelihood_is_the_mean_over_the_tokens_of_each_prompt() -> None:
    targets, readers = torch.tensor([3, 3, 8, 0, 1, 9]), torch.tensor([0, 1, 1, 1, 2, 2])
    found = Likelihood(VOCABULARY).read(STATES, VOCABULARY.normaliser(STATES), targets, readers, 3)
    each = LOGITS.log_softmax(1)[torch.arange(6), targets]
    assert difference(found.scores, [each[:1].mean(), each[1:4].mean(), each[4:].mean()]) < 1e-12
    assert found.probabilities is found.masses is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_in_single_precision(dtype: torch.dtype) -> None:
    half, states = WEIGHT.to(dtype), STATES.to(dtype)
    vocabulary = Vocabulary(half)
    normaliser = vocabulary.normaliser(states)
    logits = states.float() @ half.float().T
    p = logits.softmax(1)
    for readout, tokens in ((Verdict, torch.tensor([12, 4])), (Number, DIGITS)):
        found = readout(vocabulary, tokens).read(states, normaliser)
        assert found.scores.dtype == torch.float32
        assert difference(found.scores, readout(Vocabulary(half.float()), tokens).scores(states.float())) < 1e-5
        assert found.masses is not None
        assert difference(found.masses, p[:, tokens].sum(1)) < 0.05


def test_a_mass_is_never_more_than_one() -> None:
    certain = Vocabulary(torch.eye(4, dtype=torch.float64) * 40)
    states = torch.eye(4, dtype=torch.float64)[:1]
    found = Verdict(certain, torch.tensor([0, 1])).read(states, certain.normaliser(states) - 1e-3)
    assert found.masses is not None
    assert found.masses.tolist() == [1.0]
