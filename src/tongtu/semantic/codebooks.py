"""Codebooks, and the way from vectors to the space they lie in. NumPy alone: what faiss or torch fitted is read without them.

Every quantiser here is a residual one: at each level an item takes the code nearest to what the levels before have left of its vector. Product
quantisation is too, since its codebooks lie in parts of the space that have nothing to do with each other.

Shapes: N vectors, D their width, Z the width of the codes, L levels, M of them known, K codes of a level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tongtu.core import Codes

Vectors = npt.NDArray[np.float32]
Layers = tuple[tuple[Vectors, Vectors], ...]

_AT_ONCE = 32_768  # vectors whose distances to a level's codes are held at a time


@dataclass(frozen=True, eq=False)
class Projection:
    """The space of the codes: vectors less their mean over one spread, and then layers with ReLU between them.

    Attributes:
        mean: float32[D]. spread: float32[1], one number for all directions, so that no distance changes its rank.
        layers: Weights float32[out, in] and biases float32[out]; none leaves the scaled vectors as they are.
        inverse: Layers that lead back.
    """

    mean: Vectors
    spread: Vectors
    layers: Layers = ()
    inverse: Layers = ()

    @classmethod
    def scaling(cls, vectors_ND: Vectors) -> Self:
        """The scale of vectors: mean zero, and one for the mean square of a number."""
        mean = vectors_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = np.sqrt(np.square(vectors_ND - mean).mean(dtype=np.float64))
        return cls(mean, np.array([spread if spread > 0 else 1], np.float32))

    def scaled(self, vectors_ND: Vectors) -> Vectors:
        """float32[N, D], the vectors to scale."""
        return (vectors_ND - self.mean) / self.spread

    def __call__(self, vectors_ND: Vectors) -> Vectors:
        """float32[N, Z]."""
        return _through(self.layers, self.scaled(vectors_ND))

    def back(self, codes_NZ: Vectors) -> Vectors:
        """float32[N, D], what vectors of the codes' space stand for."""
        return _through(self.inverse, codes_NZ) * self.spread + self.mean


@dataclass(frozen=True, eq=False)
class Quantiser:
    """Books float32[K, Z], one a level, behind a projection."""

    projection: Projection
    books: tuple[Vectors, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has."""
        return tuple(map(len, self.books))

    def codes(self, z_NZ: Vectors) -> Codes:
        """int32[N, L], the nearest code at each level."""
        found = np.zeros((len(z_NZ), len(self.books)), np.int32)
        for start in range(0, len(z_NZ), _AT_ONCE):
            left = z_NZ[start : start + _AT_ONCE].copy()
            for level, book in enumerate(self.books):
                code = squared_distances(left, book).argmin(axis=1)
                found[start : start + _AT_ONCE, level] = code
                left -= book[code]
        return found

    def codes_at(self, z_NZ: Vectors, known_NM: Codes) -> Codes:
        """int32[N], the nearest code of level M behind the M codes before it."""
        found = np.zeros(len(z_NZ), np.int32)
        for start in range(0, len(z_NZ), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found[part] = self.distances(z_NZ[part], known_NM[part]).argmin(axis=1)
        return found

    def distances(self, z_NZ: Vectors, known_NM: Codes) -> Vectors:
        """float32[N, K], squared distances to the codes of level M of what the codes before it leave."""
        return squared_distances(z_NZ - self.decoded(known_NM), self.books[known_NM.shape[1]])

    def decoded(self, codes_NM: Codes) -> Vectors:
        """float32[N, Z], the sum of the first M codes."""
        total = np.zeros((len(codes_NM), self.books[0].shape[1]), np.float32)
        for book, code in zip(self.books, codes_NM.T, strict=False):
            total += book[code]
        return total

    def moved(self, z_NZ: Vectors) -> Self:
        """Books one round of k-means on: each code goes to the mean of what is left of its vectors, those without any stay."""
        left, books = z_NZ.copy(), []
        for book in self.books:
            code = squared_distances(left, book).argmin(axis=1)
            order = np.argsort(code, kind="stable")
            some, first = np.unique(code[order], return_index=True)
            after = book.copy()
            after[some] = np.add.reduceat(left[order], first) / np.diff(np.append(first, len(code)))[:, None]
            after *= book.any(axis=0)  # a book of a part of the space stays in it
            left -= after[squared_distances(left, after).argmin(axis=1)]
            books.append(after)
        return type(self)(self.projection, tuple(books))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it by name."""
        ways = {"layer": self.projection.layers, "inverse": self.projection.inverse}
        layers = {f"{way}.{n}.{name}": part for way, made in ways.items() for n, layer in enumerate(made) for name, part in zip(_PARTS, layer, strict=True)}
        return {"mean": self.projection.mean, "spread": self.projection.spread, **layers} | {f"book.{n}": book for n, book in enumerate(self.books)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The quantiser that `arrays` is of."""
        ways = [tuple((arrays[f"{way}.{n}.weight"], arrays[f"{way}.{n}.bias"]) for n in range(_count(arrays, way))) for way in ("layer", "inverse")]
        return cls(Projection(arrays["mean"], arrays["spread"], *ways), tuple(arrays[f"book.{n}"] for n in range(_count(arrays, "book"))))


_PARTS = ("weight", "bias")


def squared_distances(one_NZ: Vectors, other_KZ: Vectors) -> Vectors:
    """float32[N, K]."""
    found: Vectors = np.square(one_NZ).sum(1, keepdims=True) - 2 * one_NZ @ other_KZ.T + np.square(other_KZ).sum(1)
    return found


def _through(layers: Layers, x: Vectors) -> Vectors:
    for n, (weight, bias) in enumerate(layers):
        x = (np.maximum(x, 0) if n else x) @ weight.T + bias
    return x


def _count(arrays: Mapping[str, Any], kind: str) -> int:
    """How many numbered things of a kind there are."""
    return len({name.split(".")[1] for name in arrays if name.startswith(f"{kind}.")})
