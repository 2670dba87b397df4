"""The items people see: those of the store, and those of the model folders where the store knows nothing."""

from __future__ import annotations

import asyncio
import bisect
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tongtu.errors import ModelError
from tongtu.serve.store.records import Item

if TYPE_CHECKING:
    import polars as pl

    from tongtu.serve.store.asynchronous import AsyncStore

_CACHED = 100_000
_TITLE = 120
_TEXT = 300
_FRESH = 5.0  # seconds that it is remembered which items pass a filter
_FILTERS = 100
_ALIKE = 50  # items that are looked at for the one of a text
_WORDS = 8  # words of a search that count

Shown = dict[str, Any]


@dataclass(frozen=True, eq=False)
class FolderItems:
    """The items of a model folder, in the order of their ids."""

    ids: pl.Series
    text: pl.Series | None

    def item(self, id: str) -> Item | None:
        """One item, if it is there."""
        place = bisect.bisect_left(self.ids, id)
        if place == len(self.ids) or self.ids[place] != id:
            return None
        return Item(id, "" if self.text is None else self.text[place] or "")

    def page(self, after: str | None, limit: int, query: str) -> list[Item]:
        """Up to `limit` items behind `after` whose text holds all words of `query`, without regard to case."""
        import polars as pl

        place = 0 if after is None else bisect.bisect_right(self.ids, after)
        frame = pl.DataFrame({"id": self.ids, "text": pl.Series([""] * len(self.ids)) if self.text is None else self.text}).slice(place)
        for word in query.lower().split()[:_WORDS]:
            frame = frame.filter(pl.col("text").str.to_lowercase().str.contains(word, literal=True))
        return [Item(id, text or "") for id, text in frame.head(limit).iter_rows()]


def read_folder(path: Path) -> FolderItems:
    """The items of a model folder.

    Raises:
        ModelError: If its items.parquet cannot be read.
    """
    import polars as pl

    try:
        frame = pl.read_parquet(path / "items.parquet").with_columns(pl.col("id").cast(pl.String)).sort("id")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ModelError(f"{path}/items.parquet cannot be read ({' '.join(str(error).split())[:160]}): restore the folder, or fit the model again") from None
    return FolderItems(frame["id"], frame["text"].cast(pl.String) if "text" in frame.columns else None)


class Catalogue:
    """Finds items by id and by words. What was read is kept in memory, and forgotten when it changes.

    Args:
        store: Where items are kept.
    """

    def __init__(self, store: AsyncStore) -> None:
        self.store = store
        self.folders: dict[str, FolderItems] = {}
        self.cache: OrderedDict[str, Shown | None] = OrderedDict()
        self.matched: OrderedDict[Any, tuple[frozenset[str], float]] = OrderedDict()

    async def add_folder(self, version: str, path: Path) -> None:
        """Know the items of a model that is about to be served."""
        self.folders[version] = await asyncio.to_thread(read_folder, path)
        self.cache.clear()

    def keep_only(self, versions: Iterable[str]) -> None:
        """Forget the items of models that are served no longer."""
        served = set(versions)
        for gone in self.folders.keys() - served:
            del self.folders[gone]
            self.cache.clear()

    async def shown(self, ids: Sequence[str]) -> list[Shown]:
        """Items as lists show them (long texts cut), in the order of `ids`; one nobody knows has its id alone."""
        missing = [id for id in ids if id not in self.cache]
        if missing:
            for id, item in (await self._read(missing)).items():
                self.cache[id] = None if item is None else shown(item, _TEXT)
        found: list[Shown] = [self.cache.get(id) or {"id": id, "title": None, "text": None, "fields": {}} for id in ids]
        while len(self.cache) > _CACHED:
            self.cache.popitem(last=False)
        return found

    async def titles(self, ids: Sequence[str]) -> dict[str, str | None]:
        """Titles by id."""
        return {item["id"]: item["title"] for item in await self.shown(ids)}

    async def item(self, id: str) -> Item | None:
        """One item, whole."""
        return (await self._read([id]))[id]

    async def items(self, ids: Sequence[str]) -> Mapping[str, Item | None]:
        """Items by id, whole; None for one nobody knows."""
        return await self._read(list(ids))

    async def id_of_text(self, words: str) -> str | None:
        """The item that has this title or text, to the letter."""
        rows, _ = await self.page(None, _ALIKE, words[:1000], None)
        return next((item.id for item in rows if words in (item.text, item.title or title_of(item.text))), None)

    async def page(self, after: str | None, limit: int, query: str, category: str | None) -> tuple[list[Item], str | None]:
        """Items in the order of their ids, those of the store before those of folders, and where the next page begins.

        Args:
            after: Behind this id.
            limit: How many.
            query: Words that title and text must hold, or "".
            category: A value that a field must have, or None; items of folders have no fields.
        """
        page = await self.store.call(self.store.sync.items, after, limit + 1, query or None, category)
        found = {item.id: item for item in page.rows}
        if category is None and self.folders:
            further = await asyncio.to_thread(self._in_folders, after, limit + 1, query)
            stored = await self.store.call(self.store.sync.get_items, [item.id for item in further if item.id not in found])
            found |= {item.id: item for item in further if item.id not in found and item.id not in stored}
        rows = [found[id] for id in sorted(found)[: limit + 1]]
        return rows[:limit], rows[limit - 1].id if len(rows) > limit else None

    async def matching(self, filters: Mapping[str, Sequence[str]]) -> frozenset[str]:
        """Ids of the items that have, in each field, one of the values; as of a few seconds ago."""
        key = tuple((field, tuple(values)) for field, values in sorted(filters.items()))
        kept = self.matched.get(key)
        if kept is None or kept[1] < time.monotonic():
            found = frozenset(await self.store.call(self.store.sync.matching, filters))
            kept = self.matched[key] = found, time.monotonic() + _FRESH
            if len(self.matched) > _FILTERS:
                self.matched.popitem(last=False)
        return kept[0]

    def changed(self, ids: Iterable[str]) -> None:
        """Items were written: read them anew."""
        self.matched.clear()
        for id in ids:
            self.cache.pop(id, None)

    def known_to(self, version: str, id: str) -> bool:
        """Whether a model's folder has an item."""
        folder = self.folders.get(version)
        return folder is not None and folder.item(id) is not None

    async def _read(self, ids: list[str]) -> dict[str, Item | None]:
        found: dict[str, Item | None] = dict.fromkeys(ids)
        found |= await self.store.call(self.store.sync.get_items, ids)
        for id in [id for id, item in found.items() if item is None]:
            found[id] = next((item for folder in self.folders.values() if (item := folder.item(id)) is not None), None)
        return found

    def _in_folders(self, after: str | None, limit: int, query: str) -> list[Item]:
        found: dict[str, Item] = {}
        for folder in self.folders.values():
            for item in folder.page(after, limit, query):
                found.setdefault(item.id, item)
        return [found[id] for id in sorted(found)[:limit]]


def shown(item: Item, longest: int | None = None) -> Shown:
    """An item as it is told over HTTP."""
    text = item.text if longest is None or len(item.text) <= longest else item.text[: longest - 1] + "…"
    return {"id": item.id, "title": item.title or title_of(item.text), "text": text or None, "fields": dict(item.fields)}


def title_of(text: str) -> str | None:
    """What to call an item that has a text alone: the text's first line, cut where it is long."""
    line = text.strip().partition("\n")[0].strip()
    return None if not line else line if len(line) <= _TITLE else line[: _TITLE - 1].rstrip() + "…"
