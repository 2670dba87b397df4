"""Vectors of a catalogue's texts, and the encoder that gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tongtu.errors import ModelError
from tongtu.text.encoder import ItemEncoder, Vectors, open_encoder
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


def reader_of(encoder: ItemEncoder) -> dict[str, Any]:
    """What a model folder records of the encoder that read its catalogue."""
    return {"encoder": encoder.name, "fingerprint": encoder.fingerprint, "width": encoder.width}


def same_encoder(name: str, reader: Mapping[str, Any]) -> ItemEncoder:
    """The encoder that read a catalogue, opened again.

    Args:
        name: What it is opened by.
        reader: What `reader_of` told of it.

    Raises:
        ModelError: If the one of that name gives other vectors by now.
    """
    encoder = open_encoder(name)
    if encoder.fingerprint != reader["fingerprint"]:
        raise ModelError(f"the encoder {name!r} is not the one this model was fitted with (other weights or settings): fit the model again")
    return encoder
