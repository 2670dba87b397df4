"""The recommender as a tool: candidates for a user and a query, within filters, from the catalogue and from items that are newer than it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from tongtu.core import PAD, Codes, Recommender, Request
from tongtu.data.item_text import item_names
from tongtu.errors import DataError
from tongtu.llm.wording import printable
from tongtu.systems.prompted._dialogue import estimated_tokens
from tongtu.systems.prompted._stopwords import REQUEST_WORDS
from tongtu.text.encoder import ItemEncoder, Vectors
from tongtu.text.vectors import text_vectors

_DEPTH = 500  # places of the recommender's order that a query may lift items from
_DAMPING = 60  # of reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009)
_LEAST_ALIKE = 0.25  # cosine from which a new item without a word of the request has to do with it
_TASTE = 0.3  # weight of profile and history beside the query, when new items are looked for


@dataclass(frozen=True)
class Query:
    """A call of the tool.

    Attributes:
        text: What to look for; "" for whatever the user may like.
        n: Candidates wanted.
        include: Words of which an item must have at least one.
        exclude: Words of which an item may have none.
        skip: Ids that are left out.
    """

    text: str = ""
    n: int = 20
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """An item that was found.

    Attributes:
        id, title, text: Of the item.
        why: In words that are true whatever a language model says.
        new: Whether it is newer than the recommender.
    """

    id: str
    title: str
    text: str
    why: str = ""
    new: bool = False


class Search:
    """Looks items up; see the module's text.

    Args:
        recommender: Any fitted one.
        titles: One a catalogue item, in code order.
        texts: Likewise; both are searched.
        encoder: Makes vectors of new items and of requests.
    """

    def __init__(self, recommender: Recommender, titles: pl.Series, texts: pl.Series, encoder: ItemEncoder) -> None:
        self.recommender, self.titles, self.texts, self.encoder = recommender, titles, texts, encoder
        self._words = _words_of(_whole(titles, texts))
        self.new = pl.DataFrame(schema={"id": pl.String, "title": pl.String, "text": pl.String})
        self._new_words, self._vectors = _words_of(self.new["text"]), np.zeros((0, encoder.width), np.float32)

    def add(self, items: pl.DataFrame) -> None:
        """Put new items into the index: columns "id", "text" and perhaps "title".

        Raises:
            DataError: If a column is missing, or an id is missing, stands twice or is in the catalogue already.
        """
        if missing := {"id", "text"} - set(items.columns):
            raise DataError(f"new items need the columns id and text; {' and '.join(sorted(missing))} missing: rename or add them")
        columns = items if "title" in items.columns else items.with_columns(title=None)
        told = columns.select(pl.col("id").cast(pl.String), pl.col("title").cast(pl.String), pl.col("text").cast(pl.String).fill_null(""))
        frame = pl.concat([self.new, told])
        known = frame.filter(pl.Series(self.recommender.items.encode(frame["id"].fill_null("")) != PAD))["id"].to_list()
        if known:
            raise DataError(f"{known[0]} is in the catalogue already: add only items that the recommender does not know")
        if frame["id"].null_count() or frame["id"].n_unique() != frame.height:
            raise DataError("new items need an id each, and no id twice: drop the rows that repeat")
        whole = _whole(frame["title"], frame["text"])
        self.new, self._new_words = frame, _words_of(whole)
        self._vectors = _unit(text_vectors(self.encoder, whole, quiet=True))

    def candidate(self, code: int, why: str = "") -> Candidate:
        """An item of the catalogue."""
        title, text = printable(str(self.titles[code - 1] or "")), printable(str(self.texts[code - 1] or ""))
        external = str(self.recommender.items.ids[code - 1])
        return Candidate(external, title or f"item {external}", text, why)

    def __call__(self, request: Request, query: Query) -> list[Candidate]:
        """Candidates, best first: the recommender's order and that of the words of the query in one, and among them new items that are like the request."""
        found = [*self._from_catalogue(request, query), *self._from_new(request, query)]
        return [candidate for _, candidate in sorted(found, key=lambda one: -one[0])][: query.n]

    def excluded(self, words: Sequence[str]) -> list[str]:
        """Those of the words that occur in the catalogue or in a new item."""
        known = set(self._words["word"].unique()) | set(self._new_words["word"].unique())
        return [word for word, stem in zip(words, stems(words), strict=True) if stem in known]

    def _from_catalogue(self, request: Request, query: Query) -> list[tuple[float, Candidate]]:
        allowed = self._allowed(request, query)
        asked = dataclasses.replace(request, wish=query.text or request.wish, candidates=allowed)
        depth = min(max(_DEPTH, query.n), len(self.recommender.items))
        row = self.recommender.recommend([asked], depth).items[0]
        order = row[row != PAD]
        matched = self._matches(query.text)
        if request.exclude_seen:
            matched = matched.filter(~pl.col("code").is_in(np.unique(request.history)))
        if allowed is not None:
            matched = matched.filter(pl.col("code").is_in(allowed))
        place = {int(code): rank for rank, code in enumerate(order)}
        hits = sorted(matched.iter_rows(named=True), key=lambda hit: (-hit["worth"], place.get(hit["code"], depth), hit["code"]))[:depth]
        fused = {code: 1 / (_DAMPING + 1 + rank) for code, rank in place.items()}
        for rank, hit in enumerate(hits):
            fused[hit["code"]] = fused.get(hit["code"], 0.0) + 1 / (_DAMPING + 1 + rank)
        words = {hit["code"]: hit["word"] for hit in hits}
        best = sorted(fused, key=lambda code: (-fused[code], place.get(code, depth)))[: query.n]
        return [(fused[code], self.candidate(code, _why(words.get(code), place.get(code)))) for code in best]

    def _allowed(self, request: Request, query: Query) -> Codes | None:
        """The codes that pass the filters, or None where there are none."""
        if not (query.include or query.exclude or query.skip):
            return request.candidates
        codes = np.arange(1, self.recommender.items.size, dtype=np.int32) if request.candidates is None else np.asarray(request.candidates, np.int32)
        keep = ~np.isin(codes, self.recommender.items.encode(sorted(query.skip))) & ~np.isin(codes, _having(self._words, query.exclude))
        if query.include:
            keep &= np.isin(codes, _having(self._words, query.include))
        allowed: Codes = codes[keep]
        return allowed

    def _matches(self, text: str) -> pl.DataFrame:
        """Items with words of the query: code, those words, and the sum of how rare they are."""
        wanted = query_words(text)
        table = pl.DataFrame({"word": stems(wanted), "said": wanted}, schema={"word": pl.String, "said": pl.String}).unique("word", keep="first")
        table = table.sort(pl.col("said").replace_strict(wanted, range(len(wanted)), return_dtype=pl.Int64)).with_row_index("at")
        found = self._words.join(table, on="word")
        rare = (1 + len(self.titles) / pl.len().over("word")).log()
        worth = pl.col("rare").sum().round(6).alias("worth")
        return found.with_columns(rare.alias("rare")).group_by("code").agg(pl.col("said").sort_by("at").alias("word"), worth)

    def _from_new(self, request: Request, query: Query) -> list[tuple[float, Candidate]]:
        """At most a quarter of the candidates: new items that are like the query and the user's taste, most alike first."""
        if not self.new.height:
            return []
        codes = request.history[request.history != PAD][-10:].astype(np.int64)
        facts = " ".join(value for name, value in sorted(request.attributes.items()) if name not in request.forget)
        text = " ".join(query_words(query.text or request.wish or ""))
        wanted, facts_, taste = (_unit(self.encoder.encode([one]))[0] for one in (text, facts, " ".join(self.texts.gather(codes - 1))))
        likes = self._vectors @ (facts_ + taste)
        asked = self._vectors @ wanted if text else likes
        alike, numbers = asked + _TASTE * likes, np.arange(1, self.new.height + 1)
        says = np.isin(numbers, _having(self._new_words, query_words(query.text)))
        keep = (says | (asked >= _LEAST_ALIKE)) & ~self.new["id"].is_in(sorted(query.skip)).to_numpy()
        keep &= ~np.isin(numbers, _having(self._new_words, query.exclude))
        if query.include:
            keep &= np.isin(numbers, _having(self._new_words, query.include))
        best = [row for row in np.argsort(-alike, kind="stable") if keep[row]][: max(query.n // 4, 1)]
        names, why = item_names(self.new["text"], self.new), "is new, and like what you ask for"
        found = []
        for rank, row in enumerate(map(int, best)):
            worth = (1.0 + bool(says[row])) / (_DAMPING + 1 + rank)
            found.append((worth, Candidate(str(self.new["id"][row]), printable(names[row]), printable(self.new["text"][row]), why, new=True)))
        return found


def catalogue_of(recommender: Recommender, catalogue: pl.DataFrame | None) -> tuple[Recommender, pl.Series, pl.Series]:
    """Who proposes candidates, and what items are called and what is searched of them, in code order.

    Raises:
        DataError: If `catalogue` lacks a column, or no item has a title or text.
    """
    from tongtu.systems.prompted.chatrec import ChatREC

    behind = recommender.retriever if isinstance(recommender, ChatREC) else recommender
    if catalogue is not None:
        if missing := {"id", "text"} - set(catalogue.columns):
            raise DataError(f"the catalogue needs the columns id and text; {' and '.join(sorted(missing))} missing: rename or add them")
        ids = behind.items.ids.rename("id").cast(pl.String).to_frame()
        frame = ids.join(catalogue.with_columns(pl.col("id").cast(pl.String)).unique("id", keep="first"), on="id", how="left", maintain_order="left")
        texts = frame["text"].cast(pl.String).fill_null("")
        titles = item_names(texts, frame)
    else:
        own: pl.Series | None = getattr(recommender, "item_text", None)
        titles = item_names(_texts(own, behind), pl.DataFrame())
        texts = _texts(getattr(behind, "item_text", None), behind)
        texts = texts if (texts != "").any() else titles
    if not (titles != "").any():
        raise DataError("no item of this recommender has a title or text to speak of: fit it on data that was imported with --items FILE --text COLUMN")
    return behind, titles, texts


def _texts(texts: pl.Series | None, recommender: Recommender) -> pl.Series:
    return pl.Series("text", [""] * len(recommender.items), dtype=pl.String) if texts is None else texts.fill_null("")


def _whole(titles: pl.Series, texts: pl.Series) -> pl.Series:
    """Texts with their titles before them, where they do not begin with these."""
    frame = pl.DataFrame({"title": titles.fill_null(""), "text": texts.fill_null("")})
    title, text = pl.col("title"), pl.col("text")
    return frame.select(pl.when((title == "") | text.str.starts_with(title)).then(text).otherwise(title + ". " + text)).to_series()


def stems(words: Sequence[str]) -> list[str]:
    """Words as they are compared: "Comedies" and "comedy" are the same."""
    return pl.Series("word", list(words), dtype=pl.String).to_frame().select(_stem(pl.col("word"))).to_series().to_list()


def query_words(text: str) -> list[str]:
    """The words of a request that say what is asked for."""
    return [word for word in dict.fromkeys(re.findall(r"\w+", text.casefold())) if len(word) > 1 and word not in REQUEST_WORDS]


def described(candidate: Candidate, tokens: int = 60) -> str:
    """What a prompt tells of an item: its title, and the rest of its text where there is more, within so many tokens."""
    head, _, rest = candidate.text.strip().partition(". ")
    named = sorted(re.findall(r"\w+", head.casefold())) == sorted(re.findall(r"\w+", candidate.title.casefold()))  # "Sting, The" is "The Sting"
    whole = candidate.text.strip()
    if named or not whole.casefold().startswith(candidate.title.casefold()):
        whole = f"{candidate.title}. {rest if named else whole}".removesuffix(". ")
    while estimated_tokens(whole) > tokens:
        whole = whole[: int(len(whole) * 0.9)].rstrip()
    return whole


def _stem(word: pl.Expr) -> pl.Expr:
    return word.str.to_lowercase().str.replace(r"ies$", "y").str.replace(r"([^s])s$", "$1")


def _words_of(texts: pl.Series) -> pl.DataFrame:
    """Each word of each text once: "code" from 1, and "word"."""
    frame = pl.DataFrame({"code": np.arange(1, len(texts) + 1, dtype=np.int32), "word": texts.fill_null("").str.to_lowercase().str.extract_all(r"\w+")})
    return frame.explode("word").drop_nulls().with_columns(_stem(pl.col("word"))).unique(maintain_order=True)


def _having(table: pl.DataFrame, words: Sequence[str]) -> npt.NDArray[np.int32]:
    """Codes of items that have one of the words."""
    parts = stems([part for word in words for part in re.findall(r"\w+", word)])
    codes: npt.NDArray[np.int32] = table.filter(pl.col("word").is_in(parts))["code"].unique().to_numpy()
    return codes


def _why(words: Sequence[str] | None, place: int | None) -> str:
    parts = [f"has your words {', '.join(words)}"] if words else []
    if place is not None:
        parts.append(f"stands at place {place + 1} for your history")
    return " and ".join(parts)


def _unit(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(length, np.finfo(np.float32).tiny)).astype(np.float32)
    return unit
