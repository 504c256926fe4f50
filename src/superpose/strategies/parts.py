"""Pure parts that strategies are written from: select candidates, weigh them, combine; gates and stop rules.

A selection is `Candidates`: ids [K] int32 and p [K], likeliest first, none of probability 0. Probabilities and weights
are float64, or float32 where a whole vocabulary is read at every step. Randomness comes in as a generator keyed by
(seed, step). Numbers of papers are in `docs/strategies.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from superpose.types import Combine, Distribution, GaussianNoise, IntArray, Mixture, Rescale

Weights = npt.NDArray[np.floating]
_MATH = re.compile(r"\s*[0-9A-Za-z+\-*/=^<>(){}\[\]%.,×÷]\s*")
NEGLIGIBLE = 1e-12  # times the largest: 150,000 of them are near float32's resolution of the sum


class Candidates(NamedTuple):
    """Selected candidates, likeliest first, with probabilities that need not sum to 1."""

    ids: IntArray  # [K] int32
    p: Weights  # [K], above 0

    def renormalised(self) -> Candidates:
        """The same candidates with probabilities that sum to 1."""
        return Candidates(self.ids, normalised(self.p))


# -- select ---------------------------------------------------------------------------------------------------


def candidates(d: Distribution) -> Candidates:
    """All that was believed with a probability above 0, in float64."""
    ids, p = vocabulary(d)
    return Candidates(ids, p.astype(np.float64))


def vocabulary(d: Distribution) -> Candidates:
    """All that was believed with a probability above 0, in float32 as it came."""
    if d.probs[-1] > 0:  # likeliest first: so are all others
        return Candidates(d.ids, d.probs)
    count = int(np.count_nonzero(d.probs > 0))
    return Candidates(d.ids[:count], d.probs[:count])


def top_k(c: Candidates, k: int) -> Candidates:
    """The k likeliest."""
    return Candidates(c.ids[:k], c.p[:k])


def top_p(c: Candidates, mass: float) -> Candidates:
    """The smallest set of likeliest candidates whose cumulative probability reaches `mass` (Holtzman 2020)."""
    # float32 probabilities sum with errors near 1e-8: a set that reaches the mass exactly must count as reaching it
    return top_k(c, int(c.p.cumsum().searchsorted(mass - 1e-7)) + 1)


def min_p(c: Candidates, ratio: float) -> Candidates:
    """Those of at least `ratio` times the likeliest's probability."""
    return top_k(c, int(np.count_nonzero(c.p >= ratio * c.p[0])))


def filtered(c: Candidates, k: int, mass: float, ratio: float) -> Candidates:
    """top-k, then top-p of what that left, then min-p, not renormalised; k 0, mass 1 and ratio 0 switch one off."""
    if k:
        c = top_k(c, k)
    if mass < 1:
        c = top_p(c, mass * float(c.p.sum()) if k else mass)
    return min_p(c, ratio) if ratio else c


def top_n_sigma(c: Candidates, n: float, temperature: float) -> Candidates:
    """Those with logits of at least max z - n std(z), z over the whole vocabulary (arXiv 2411.07641).

    `c` must be the whole vocabulary. Log-probabilities times the temperature are the logits up to a constant.
    """
    if len(c.p) == 1:
        return c
    z = temperature * np.log(c.p)
    return top_k(c, int(np.count_nonzero(z >= z[0] - n * z.std(dtype=np.float64))))


def random_subset(c: Candidates, count: int, random: Generator) -> Candidates:
    """`count` of the candidates, each subset equally likely, still likeliest first."""
    if count >= len(c.ids):
        return c
    kept = random.random(len(c.ids)).argpartition(count)[:count]  # those of the smallest of equal independent numbers
    kept.sort()
    return Candidates(c.ids[kept], c.p[kept])


def with_token(c: Candidates, token: int) -> tuple[Candidates, int]:
    """The candidates, this token among them (at the end with probability 0 if it was not), and its place."""
    place = int((c.ids == token).argmax())
    if c.ids[place] == token:
        return c, place
    return Candidates(np.append(c.ids, np.int32(token)), np.append(c.p, c.p.dtype.type(0))), len(c.ids)


# -- weigh ----------------------------------------------------------------------------------------------------


def normalised(weights: Weights) -> Weights:
    """The weights divided by their sum."""
    shares: Weights = weights / float(weights.sum())  # by a float: dividing by numpy's scalar takes twice as long
    return shares


def softmax(scores: Weights) -> Weights:
    """Weights in proportion to the exponentials of scores, which are overwritten."""
    scores -= float(scores[scores.argmax()])
    np.exp(scores, out=scores)
    scores /= float(scores.sum())
    return scores


def inverse(p: Weights) -> Weights:
    """Weights in proportion to 1/p."""
    return normalised(p.min() / p)  # scaled by the smallest first: 1/p overflows for subnormal p


def power(p: Weights, exponent: float) -> Weights:
    """Weights in proportion to p^exponent: 1/T tempers once more, 1 changes nothing, 0 is uniform."""
    if exponent == 1:
        return normalised(p)
    return softmax(exponent * np.log(p))


def dirichlet(p: Weights, concentration: float, random: Generator) -> Weights:
    """A draw from Dirichlet(concentration x p), as normalised Gamma draws."""
    draws: Weights = random.standard_gamma(concentration * p)
    total = float(draws.sum())
    if total > 0:
        draws /= total
    else:  # every tiny-shape Gamma underflowed; the limit is one vertex
        draws[p.argmax()] = 1
    return draws


def gumbel_softmax(p: Weights, tau: float, noise: Weights) -> Weights:
    """softmax((ln p + g) / tau); with Gumbel noise g its argmax is a draw from p, for any tau (Jang 2017)."""
    scores = np.log(p)
    scores += noise
    scores /= tau
    return softmax(scores)


def posterior(p: Weights, drawn: int, certainty: float) -> Weights:
    """certainty x p + (1 - certainty) on the drawn candidate, by its place in p."""
    weights: Weights = certainty / p.sum() * p
    weights[drawn] += 1 - certainty
    return weights


def affine_contrast(p: Weights, strength: float) -> Weights:
    """Weights of mean + strength x (mean - likeliest): signed, sum 1; the likeliest's may be negative."""
    weights = (1 + strength) * normalised(p)
    weights[0] -= strength
    return weights


def drawn(p: Weights, count: int, replacement: bool, random: Generator) -> npt.NDArray[np.integer]:
    """`count` places in `p`, which sums to 1, each a draw from it; at most as many as there are without replacement."""
    places: npt.NDArray[np.integer]
    if not replacement:
        places = random.choice(len(p), min(count, len(p)), False, p)
        return places
    reached = p.cumsum()
    places = np.searchsorted(reached / reached[-1], random.random(count), "right")  # as `choice`, less its checks of p
    return places


def counted(
    p: Weights, draws: npt.NDArray[np.integer], by_probability: bool
) -> tuple[npt.NDArray[np.integer], Weights]:
    """Distinct places among the draws and their weights: count x p, or the count alone, normalised."""
    counts = np.bincount(draws)
    places = counts.nonzero()[0]
    return places, normalised(counts[places] * (p[places] if by_probability else 1.0))


def retempered(c: Candidates, temperature: float, wanted: float) -> Candidates:
    """The same belief at another temperature: p^(temperature / wanted), renormalised.

    Candidates that all together cannot matter in float32 are left out first. At temperature 0 there is one candidate
    and nothing to retemper.
    """
    if temperature == 0 or len(c.p) == 1:
        return c.renormalised()
    ids, p = min_p(c, NEGLIGIBLE ** (wanted / temperature))
    weights = np.log(p)
    weights -= weights[0]
    weights *= temperature / wanted
    np.exp(weights, out=weights)
    weights /= weights.sum()
    return Candidates(ids, weights)


# -- combine --------------------------------------------------------------------------------------------------


def blend(
    ids: IntArray,
    weights: Weights,
    *,
    combine: Combine = "sum",
    rescale: Rescale | float | None = None,
    noise: GaussianNoise | None = None,
    shown: int | None = None,
    reason: str | None = None,
) -> Mixture:
    """The mixture of these candidates; ones whose weight vanishes in float32 are left out."""
    small = weights.astype(np.float32, copy=False)
    # a maximum takes every candidate, whatever its weight says
    if combine == "sum" and np.count_nonzero(present := small != 0) < len(small):
        kept = present.nonzero()[0]
        ids, small = ids[kept], small[kept]
    return Mixture(ids, small, combine, "mixture", rescale, noise, shown, reason)


def anchored(c: Candidates, share: float, token: int) -> Candidates:
    """share x candidates + (1 - share) x one token; the token is merged if it is a candidate."""
    if share == 1:
        return c.renormalised()
    (ids, p), place = with_token(c, token)
    return Candidates(ids, posterior(p, place, share))


# -- gates and stop rules -------------------------------------------------------------------------------------


def entropy(p: Weights) -> float:
    """Entropy in nats of weights that are normalised first."""
    shares = normalised(p)
    return float(-(shares * np.log(shares)).sum())


class ColdStop:
    """Counts consecutive steps with an entropy below `threshold`; `fires` at the `patience`-th.

    The count starts anew after a step at or above it. A threshold of 0 never fires.
    """

    def __init__(self, threshold: float, patience: int) -> None:
        self.threshold, self.patience = threshold, patience
        self.count = 0

    def fires(self, nats: float) -> bool:
        """Takes one step's entropy into account."""
        self.count = self.count + 1 if nats < self.threshold else 0
        return self.count >= self.patience


def math_gate(on: bool, text: Callable[[int], str]) -> Callable[[int], bool]:
    """A test of token ids: single digits, letters and operators, white space aside; off, it never holds."""
    return lambda token: on and _MATH.fullmatch(text(token)) is not None
