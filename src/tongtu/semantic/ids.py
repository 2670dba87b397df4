"""Semantic ids: each item as a few codes, like ones for like items, made from item vectors.

    ids = SemanticIds.fit(vectors, SemanticConfig(kind="rkmeans"), seed=0)   # vectors float32[items.size, D]
    trie = Trie.of(ids.tokens(first=2))                                      # for constrained decoding

Paper: Rajput et al., "Recommender systems with generative retrieval" (TIGER, NeurIPS 2023).

How ours differs: three quantisers, which all end in codebooks behind a projection and are then read with NumPy alone; repair by a further level,
as in the paper, or by the nearest free code; new items get ids that nobody has, and a refit can keep those that still fit.

Shapes: I items with `PAD`, N items without, D width of a vector, L levels before repair.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tongtu.core import PAD, Codes, Offsets
from tongtu.errors import DataError
from tongtu.semantic.codebooks import Quantiser, Vectors
from tongtu.semantic.fitting import fit_quantiser
from tongtu.semantic.quality import LevelUse, collision_rate, level_use, lost_share, shared_rate
from tongtu.semantic.repair import balanced, numbered
from tongtu.semantic.settings import Kind, SemanticConfig

_PREFIX = "ids."


@dataclass(frozen=True, eq=False)
class SemanticIds:
    """The ids of a catalogue, and what gives new items theirs.

    Attributes:
        codes: int32[I, levels], the codes of each item, numbered from 0 at each level; row 0 is `PAD`'s and means nothing.
        sizes: How many codes each level has, one that repair added included.
        config: The settings they were made with.
        quantiser: The codebooks.
        facts: What was found while they were made: collisions before repair, share of the vectors lost, and more.
    """

    codes: Codes
    sizes: tuple[int, ...]
    config: SemanticConfig
    quantiser: Quantiser
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, vectors: Vectors, config: SemanticConfig | None = None, seed: int = 0, collaborative: Vectors | None = None, quiet: bool = True
    ) -> Self:
        """Ids of a catalogue.

        Args:
            vectors: float32[I, D]; row 0 is not looked at. Items of zeros, which have no text, are not learned from.
            config: Settings.
            seed: Of all that is drawn, where the settings name none.
            collaborative: float32[I, any width], vectors of the same items from who met them, for `rqvae.align`; zeros where there is none.
            quiet: Whether to show no progress.

        Raises:
            DataError: If there are no vectors, one is not finite, or there are more items than ids.
            ConfigError: If `rqvae.align` has no collaborative vectors to align to.
            MissingExtra: If the quantiser's package is not installed.
        """
        config = config or SemanticConfig()
        seed = seed if config.seed is None else config.seed
        learned, rows = _learned(vectors)
        quantiser, facts = fit_quantiser(learned, config, seed, None if collaborative is None else collaborative[1:][rows], quiet)
        z = quantiser.projection(np.asarray(vectors[1:], np.float32))
        no_one = np.zeros((0, config.levels + (config.repair == "extra")), np.int32)
        codes = _placed(quantiser, z, no_one, config.repair)
        return cls._made(_with_pad(codes), config, quantiser, vectors, facts)

    def encode(self, vectors: Vectors) -> Codes:
        """Ids int32[n, levels] of new items, none of them one that an item here or among them has (unless nothing is repaired).

        Args:
            vectors: float32[n, D], without a row for `PAD`.

        Raises:
            DataError: If there is no id left for one of them, or a vector is not of the width that was fitted.
        """
        width = len(self.quantiser.projection.mean)
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise DataError(f"vectors of shape {vectors.shape} where ids are made of vectors of {width} numbers: use the encoder that they were fitted with")
        z = self.quantiser.projection(np.asarray(vectors, np.float32))
        return _placed(self.quantiser, z, self.codes[1:], self.config.repair, self.sizes[-1])

    def with_items(self, vectors: Vectors, old: Codes) -> Self:
        """The ids of another catalogue: what was known keeps its id, what is new gets one of its own, nothing is learned.

        Args:
            vectors: float32[J, D] of the other catalogue, `PAD` first; rows of known items are not looked at.
            old: int32[J], the code that each item has here, `PAD` for new ones.
        """
        codes = self.codes[old]
        new = old == PAD
        new[0] = False
        codes[new] = self.encode(vectors[new])
        return dataclasses.replace(self, codes=codes)

    def refit(self, vectors: Vectors, old: Codes, tolerance: float = 0.1) -> Self:
        """Codebooks moved towards another catalogue, and the old id of every item that it still fits.

        The way to the codes' space stays, and the books go one round of k-means on: that finds most of what there is to gain, and further rounds let codes
        drift that nothing pushed. An RQ-VAE's books stay too, since its decoder was made for them. An old id fits if its codes, read in the new books, are
        not farther from the item's vector than its new codes would be, give or take `tolerance`. The other items, and the new ones, get ids that no kept
        one has.

        Args:
            vectors: float32[J, D] of the catalogue as it is now, `PAD` first.
            old: int32[J], the code that each item has here, `PAD` for new ones.
            tolerance: Share by which the squared distance may be larger.

        Raises:
            DataError: As `fit` does.
        """
        levels, repair, size = self.config.levels, self.config.repair, self.sizes[-1]
        learned, _ = _learned(vectors)
        quantiser = self.quantiser if self.kind == "rqvae" else self.quantiser.moved(self.quantiser.projection(learned))
        z = quantiser.projection(np.asarray(vectors[1:], np.float32))
        before, fresh = self.codes[old[1:]], _placed(quantiser, z, self.codes[:0], repair)
        gap = [np.square(z - quantiser.decoded(codes[:, :levels])).sum(axis=1) for codes in (before, fresh)]
        known = old[1:] != PAD
        kept = known & (gap[0] <= (1 + tolerance) * gap[1])
        codes = np.where(kept[:, None], before, fresh)
        codes[~kept] = _placed(quantiser, z[~kept], codes[kept], repair, size)
        facts = {"kept": int(kept.sum()), "moved": int((known & ~kept).sum()), "new": int((~known).sum())}
        return self._made(_with_pad(codes), self.config, quantiser, vectors, facts, at_least=size)

    @classmethod
    def _made(
        cls, codes: Codes, config: SemanticConfig, quantiser: Quantiser, vectors: Vectors, facts: Mapping[str, Any], at_least: int = 0
    ) -> Self:
        further = (max(config.size, at_least, int(codes[:, -1].max(initial=0)) + 1),) if config.repair == "extra" else ()
        own = codes[1:, : config.levels]
        nearest = quantiser.codes(quantiser.projection(np.asarray(vectors[1:], np.float32)))
        told = {
            "items": len(codes) - 1,
            "without vector": int((~vectors[1:].any(axis=1)).sum()),
            "collision rate before repair": collision_rate(nearest),
            "sharing before repair": shared_rate(nearest),
            "moved by repair": float((own != nearest).any(axis=1).mean()),
            "lost": lost_share(vectors[1:], quantiser.projection.back(quantiser.decoded(own))),
        }
        return cls(codes, (*quantiser.sizes, *further), config, quantiser, {**told, **facts})

    @property
    def kind(self) -> Kind:
        """The quantiser's name."""
        return self.config.kind

    @property
    def vocabulary(self) -> int:
        """How many tokens all levels have together."""
        return sum(self.sizes)

    def tokens(self, first: int = 0) -> Offsets:
        """int64[N, levels], the codes as tokens of one vocabulary, level after level, without a row for `PAD`: what `decode.Trie.of` takes.

        Args:
            first: The token of code 0 of the first level.
        """
        return self.codes[1:] + self.offsets(first)

    def offsets(self, first: int = 0) -> Offsets:
        """int64[levels], the token of code 0 of each level."""
        return first + np.concatenate([[0], np.cumsum(self.sizes[:-1], dtype=np.int64)])

    def use(self) -> tuple[LevelUse, ...]:
        """How each level is used."""
        return level_use(self.codes[1:], self.sizes)

    def collision_rate(self) -> float:
        """The collision rate of the ids as they are, after repair."""
        return collision_rate(self.codes[1:])

    def arrays(self, prefix: str = _PREFIX) -> dict[str, npt.NDArray[Any]]:
        """All of it by name, for a model folder; the settings apart."""
        own: dict[str, npt.NDArray[Any]] = {"codes": self.codes, "sizes": np.array(self.sizes, np.int64), **self.quantiser.arrays()}
        return {prefix + name: array for name, array in own.items()}

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, npt.NDArray[Any]], config: SemanticConfig, facts: Mapping[str, Any] | None = None, prefix: str = _PREFIX
    ) -> Self:
        """The ids that `arrays` is of; other arrays may stand among them."""
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        return cls(own["codes"], tuple(own["sizes"].tolist()), config, Quantiser.of_arrays(own), dict(facts or {}))


def _learned(vectors: Vectors) -> tuple[Vectors, npt.NDArray[np.bool_]]:
    """The vectors to learn from, and which rows behind `PAD` they are.

    Raises:
        DataError: If there are none, or one is not finite.
    """
    rows = np.asarray(vectors[1:], np.float32)
    if not np.isfinite(rows).all():
        raise DataError("an item vector holds a number that is not finite: encode the catalogue anew")
    some: npt.NDArray[np.bool_] = np.any(rows, axis=1)
    if not some.any():
        raise DataError("no item has a vector, so there is nothing to make ids from: import the catalogue with text columns")
    return rows[some], some


def _placed(quantiser: Quantiser, z: Vectors, taken: Codes, repair: str, size: int | None = None) -> Codes:
    if repair == "extra":
        return numbered(quantiser, z, taken, size)
    return balanced(quantiser, z, taken) if repair == "balanced" else quantiser.codes(z)


def _with_pad(codes: Codes) -> Codes:
    return np.concatenate([np.zeros((1, codes.shape[1]), np.int32), codes])
