"""Mixtures of embeddings by their definition, in numpy, one at a time: no lane can feel its neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from superpose import rng
from superpose.engine import Near
from superpose.types import FloatArray, Mixture

FLAT = 1e-4  # radians; between directions as near as these, or the same, an arc is a line


class Units(NamedTuple):
    """What lengths and noise are measured by, over the embeddings of all tokens."""

    length: float  # mean of their lengths
    coordinate: float  # root mean square of their coordinates


def combine(mixture: Mixture, rows: FloatArray) -> FloatArray:
    """The blend [width] float32 of the candidates' embeddings `rows` [K, width]; of one alone, exactly it."""
    if len(rows) == 1:
        only: FloatArray = rows[0]
        return only
    if mixture.combine == "max":
        highest: FloatArray = rows.max(0)
        return highest
    with np.errstate(over="ignore", invalid="ignore"):  # huge weights, which whoever feeds the blend refuses
        if mixture.combine == "slerp":
            lengths, t = np.linalg.norm(rows, axis=1), mixture.weights[1]
            units = rows / lengths[:, None]
            angle = max(float(np.arccos(np.clip(units[0] @ units[1], -1, 1))), FLAT)
            turned = (np.sin((1 - t) * angle) * units[0] + np.sin(t * angle) * units[1]) / np.sin(angle)
            return np.asarray(turned * (mixture.weights @ lengths), np.float32)
        mixed: FloatArray = mixture.weights @ rows
        return mixed


def finish(mixture: Mixture, mixed: FloatArray, lengths: FloatArray, units: Units) -> FloatArray:
    """The blend rescaled and with noise, where the mixture says so; `lengths` [K] are those of its candidates."""
    if mixture.rescale is None and mixture.noise is None:
        return mixed
    with np.errstate(over="ignore", invalid="ignore"):  # as above
        match mixture.rescale:
            case float(factor):
                mixed = mixed * factor
            case "mean_norm":
                mixed = mixed * units.length / np.linalg.norm(mixed)
            case "expected_norm":
                mixed = mixed * abs(float(mixture.weights @ lengths)) / np.linalg.norm(mixed)
            case "inv_l2":
                mixed = mixed / np.linalg.norm(mixture.weights)
        if mixture.noise is not None:
            scale = mixture.noise.gamma * units.coordinate
            mixed = mixed + scale * rng.normal(mixture.noise.seed, mixture.noise.step, len(mixed))
        return np.asarray(mixed, np.float32)


def nearest(mixed: FloatArray, table: FloatArray, lengths: FloatArray, count: int) -> list[Near]:
    """The rows of `table` [V, width] of some `lengths` at the smallest angles to `mixed` [width], nearest first.

    None if that has no direction; a row without one is near to nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(mixed)  # of float32, as lengths are everywhere
    if not 0 < length < np.inf:
        return []
    pointing = np.isfinite(lengths) & (lengths > 0)
    cosines = np.full(len(table), -np.inf, np.float32)
    np.divide(table @ (mixed / length), lengths, out=cosines, where=pointing)
    order = np.argsort(-cosines, kind="stable")[: min(count, int(pointing.sum()))]
    return [Near(int(token), float(cosines[token])) for token in order]
