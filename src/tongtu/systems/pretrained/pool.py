"""Many light PPR folders on one pretrained model, which answer a mixed batch in one pass of it.

Each request is answered by the folder of its owner: a shop, a region, a user. The generators' small matrices are gathered and multiplied as one
batch, and the prompts that they make stand before the histories while these pass the base together; long batches are cut as those of one model
are. Folders are opened when they are first asked for.

    pool = PromptPool.within("prompts")
    best = pool.recommend(requests, ["shop-1", "shop-2", ...], 10)
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from torch import nn

from tongtu.config import nearest
from tongtu.core import Request, RequestBatch, Scores, TopK
from tongtu.data.attributes import AttributeReader
from tongtu.errors import ConfigError, ModelError
from tongtu.files import MANIFEST
from tongtu.nn.prompts import Known, MixedPrompts, PromptedNet, PromptGenerator, score_profiles
from tongtu.ranking import BLOCK_BYTES, top_k
from tongtu.systems.pretrained._base import Base
from tongtu.systems.pretrained._told import Teller
from tongtu.systems.pretrained.ppr import PPR
from tongtu.vocab import Vocab


@dataclass(frozen=True)
class Prompts:
    """What a light folder adds to the base. Readers and vectors that are the same in several folders are held once."""

    reader: AttributeReader
    teller: Teller
    generator: PromptGenerator


class PromptPool:
    """Light PPR folders by name, on one base.

    Args:
        folders: Where each lies.
        kept: How many stay open, those asked for last; None keeps all.
    """

    base: Base

    def __init__(self, folders: Mapping[str, Path | str], kept: int | None = None) -> None:
        self.folders = {name: Path(path) for name, path in folders.items()}
        self._kept = len(self.folders) if kept is None else kept
        self._open: OrderedDict[str, Prompts] = OrderedDict()
        self._readers: dict[AttributeReader, AttributeReader] = {}
        self._vectors: WeakValueDictionary[str, npt.NDArray[np.float32]] = WeakValueDictionary()  # gone with the last folder that holds them

    @classmethod
    def within(cls, path: Path | str, kept: int | None = None) -> Self:
        """A pool of every model folder that lies in a folder, by their names.

        Raises:
            ModelError: If none lies there.
        """
        found = {file.parent.name: file.parent for file in sorted(Path(path).glob(f"*/{MANIFEST}"))}
        if not found:
            raise ModelError(f"no model folder lies in {path}: check the path, or make some with tongtu fit ppr")
        return cls(found, kept)

    @property
    def items(self) -> Vocab:
        """The base's catalogue; known once a folder is open."""
        return self.base.system.items

    def opened(self, name: str) -> Prompts:
        """What a folder adds, read when it is first asked for.

        Raises:
            ConfigError: If the pool has no such folder, or it is not a light one with as many prompts as the others.
            ModelError: If it is damaged, not PPR's, or stands on another base than the others.
        """
        if name not in self.folders:
            raise ConfigError(f"no prompt folder {name!r}, {nearest(name, self.folders)}")
        if name not in self._open:
            self._open[name] = self._read(name)
        self._open.move_to_end(name)
        return self._open[name]

    def score(self, requests: Sequence[Request], owners: Sequence[str], items: slice) -> Scores:
        """Scores float32[n, width of the slice], row i as the folder `owners[i]` scores request i.

        Raises:
            ConfigError, ModelError: See `opened`.
        """
        batch = RequestBatch.of(requests)
        assert len(owners) == len(batch)
        place = {name: number for number, name in enumerate(dict.fromkeys(owners))}
        all_prompts = [self.opened(name) for name in place]
        while len(self._open) > self._kept:
            self._open.popitem(last=False)
        net = PromptedNet(self.base.system.net, MixedPrompts([one.generator for one in all_prompts]), frozen=True).eval()
        known = _known(batch, all_prompts, np.array([place[name] for name in owners], np.int64))
        config = self.base.system.config
        return score_profiles(net, batch, known, items, config.max_length, config.loss.temperature)

    def recommend(self, requests: Sequence[Request], owners: Sequence[str], k: int) -> TopK:
        """The best `k` items for each request, from the folder of its owner.

        Raises:
            ConfigError, ModelError: See `opened`.
        """
        batch = RequestBatch.of(requests)
        if not len(batch):
            return TopK(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
        self.opened(owners[0])
        rows = max(1, BLOCK_BYTES // (4 * self.items.size))  # as many as `top_k` scores together
        parts = [slice(first, first + rows) for first in range(0, len(batch), rows)]
        found = [top_k(_Owned(self, owners[part]), batch[part], k) for part in parts]
        return TopK(np.concatenate([one.items for one in found]), np.concatenate([one.scores for one in found]))

    def memory(self) -> dict[str, int]:
        """Bytes of the base's weights, of all open generators, and of the users' vectors that they hold."""
        generators = sum(_bytes(one.generator) for one in self._open.values())
        base = _bytes(self.base.system.net) if self._open else 0
        return {"base": base, "generators": generators, "told": sum(table.nbytes for table in self._vectors.values())}

    def _read(self, name: str) -> Prompts:
        path = self.folders[name]
        system = PPR.from_pretrained(path)
        if system.config.mode != "light":
            raise ConfigError(f"{path} tuned its base (mode {system.config.mode}), so it shares none: open it alone")
        if not hasattr(self, "base"):
            self.base, self._shape = system.base, system.net.generator.shape
        if system.base.fingerprint != self.base.fingerprint:
            raise ModelError(f"{path} stands on another base than the pool's other folders: open it in a pool of its own")
        generator = system.net.generator
        assert isinstance(generator, PromptGenerator)
        if generator.shape != self._shape:
            raise ConfigError(f"{path} has {generator.prompts} prompts a layer and the pool's others have {self._shape[1]}: open it in a pool of its own")
        reader = self._readers.setdefault(system.reader, system.reader)
        return Prompts(reader, self._shared(system.teller), generator)

    def _shared(self, teller: Teller) -> Teller:
        """The teller, with vectors that are held once if other folders have the same."""
        if teller.source is None:
            return teller
        digest = hashlib.sha256(np.ascontiguousarray(teller.source).data).hexdigest()
        return dataclasses.replace(teller, source=self._vectors.setdefault(digest, teller.source))


@dataclass(frozen=True)
class _Owned:
    """A scorer of requests whose owners are known in advance."""

    pool: PromptPool
    owners: Sequence[str]

    @property
    def items(self) -> Vocab:
        return self.pool.items

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        return self.pool.score(requests, self.owners, items)


def _known(batch: RequestBatch, prompts: Sequence[Prompts], place: npt.NDArray[np.int64]) -> Known:
    """What `MixedPrompts` reads of each request: its generator's place and codes of attributes, and what is told in vectors."""
    profile = np.zeros((len(batch), 1 + max(len(one.reader.sizes) for one in prompts)), np.int64)
    profile[:, 0] = place
    for reader, rows in _by(lambda one: one.reader, prompts, place):
        profile[rows, 1 : 1 + len(reader.sizes)] = reader.of_requests(batch.take(rows))
    width = max(one.teller.width for one in prompts)
    if not width:
        return profile, None
    told = np.zeros((len(batch), width), np.float32)
    for teller, rows in _by(lambda one: one.teller, prompts, place):
        if (vectors := teller.of_requests(batch.take(rows))) is not None:
            told[rows, : teller.width] = vectors
    return profile, told


def _by(part: Callable[[Prompts], Any], prompts: Sequence[Prompts], place: npt.NDArray[np.int64]) -> list[tuple[Any, npt.NDArray[np.int64]]]:
    """Each different part of the prompts, with the rows of the requests that need it."""
    numbers: dict[int, int] = {}
    parts: list[Any] = []
    for one in map(part, prompts):
        if id(one) not in numbers:
            numbers[id(one)] = len(parts)
            parts.append(one)
    group = np.array([numbers[id(part(one))] for one in prompts])[place]
    return [(one, np.flatnonzero(group == number)) for number, one in enumerate(parts)]


def _bytes(net: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
