"""A catalogue's texts as one table of vectors."""

from __future__ import annotations

import numpy as np
import polars as pl

from tongtu.nn.text_sequence import Vectors
from tongtu.text.encoder import ItemEncoder
from tongtu.text.vectors import text_vectors


def catalogue_vectors(encoder: ItemEncoder, texts: pl.Series, quiet: bool = False) -> Vectors:
    """float32[V, W], the vector of each item code, of length 1; zeros for `PAD` and for an item without text."""
    table = np.zeros((len(texts) + 1, encoder.width), np.float32)
    if len(texts):
        table[1:] = text_vectors(encoder, texts.fill_null(""), quiet)
    length = np.linalg.norm(table, axis=1, keepdims=True)
    table /= np.maximum(length, np.finfo(np.float32).tiny)
    table[1:][(texts.fill_null("").str.strip_chars() == "").to_numpy()] = 0  # an encoder may give "" a vector of its own
    return table


def fewer_words(texts: pl.Series, chance: float, seed: int = 0) -> pl.Series:
    """The texts with each word left out by `chance`; one that would lose all its words keeps them."""
    frame = pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "word": texts.fill_null("").str.split(" ")}).explode("word")
    stays = np.random.default_rng(seed).random(frame.height) >= chance
    kept = frame.filter(pl.Series(stays)).group_by("row").agg(pl.col("word").str.join(" "))
    whole = pl.DataFrame({"row": pl.int_range(len(texts), eager=True), "text": texts.fill_null("")})
    return whole.join(kept, on="row", how="left", maintain_order="left").select(pl.coalesce("word", "text").alias("text")).to_series()
