"""Quantisers by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from tongtu.errors import ConfigError
from tongtu.semantic.codebooks import Projection, Quantiser, Vectors
from tongtu.semantic.opq import product_books
from tongtu.semantic.rkmeans import residual_books
from tongtu.semantic.settings import SemanticConfig


def fit_quantiser(vectors_ND: Vectors, config: SemanticConfig, seed: int, collaborative: Vectors | None, quiet: bool) -> tuple[Quantiser, dict[str, Any]]:
    """A quantiser of the kind that `config` names, and what was found while it was fitted.

    Args:
        vectors_ND: The vectors to learn from.
        config: Settings.
        seed: Of all that is drawn.
        collaborative: float32[N, any], see `tongtu.semantic.rqvae`.
        quiet: Whether to show no progress.

    Raises:
        ConfigError: If the settings do not fit the vectors.
        MissingExtra: If faiss is needed and absent.
    """
    if config.kind == "rqvae":
        from tongtu.semantic.rqvae import fit_rqvae

        return fit_rqvae(vectors_ND, config, seed, collaborative, quiet)
    scale, sizes = Projection.scaling(vectors_ND), (config.size,) * config.levels
    scaled = scale.scaled(vectors_ND)
    if config.kind == "rkmeans":
        return Quantiser(scale, residual_books(scaled, sizes, config.iterations, seed)), {}
    if vectors_ND.shape[1] < config.levels:
        raise ConfigError(f"vectors of {vectors_ND.shape[1]} numbers cannot be cut into {config.levels} parts: set levels to at most that")
    rotation, books = product_books(scaled, sizes, config.iterations, seed)
    nothing = np.zeros(len(rotation), np.float32)
    turned = Projection(scale.mean, scale.spread, ((rotation, nothing),), ((np.ascontiguousarray(rotation.T), nothing),))
    return Quantiser(turned, books), {}
