"""The real thing, where it is at hand: TONGTU_MIND_SAMPLE names a folder with behaviors.parquet and news.parquet cut from MIND, whose licence
does not let us pass it on. Without it these tests are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tongtu.core import FitOptions
from tongtu.data.dataset import Dataset
from tongtu.data.mind import read_mind
from tongtu.evaluation.evaluate import evaluate
from tongtu.evaluation.protocol import PROTOCOLS
from tongtu.systems import make

SAMPLE = os.environ.get("TONGTU_MIND_SAMPLE")
pytestmark = pytest.mark.skipif(SAMPLE is None, reason="TONGTU_MIND_SAMPLE names no folder")


@pytest.fixture(scope="module")
def mind(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The sample as MIND's own files, read by the reader of those."""
    folder, source = tmp_path_factory.mktemp("mind"), Path(str(SAMPLE))
    news = pl.read_parquet(source / "news.parquet").select(
        "item_id", "category", "subcategory", "title", "abstract", url=pl.lit(""), title_entities=pl.lit("[]"), abstract_entities=pl.lit("[]")
    )
    rows = pl.read_parquet(source / "behaviors.parquet").with_row_index("row")
    pairs = rows.select("row", "candidates", "clicked").explode("candidates", "clicked")
    shown = pairs.group_by("row", maintain_order=True).agg(pl.format("{}-{}", "candidates", "clicked").str.join(" ").alias("shown"))
    behaviours = rows.join(shown, on="row").select("impression_id", "user_id", "time", pl.col("history").list.join(" "), "shown")
    for name, table in (("news.tsv", news), ("behaviors.tsv", behaviours)):
        table.write_csv(folder / name, separator="\t", include_header=False, quote_style="never")
    return read_mind("mind-sample", folder, folder, True)[0]


def test_the_sample_is_read_and_parted(mind: Dataset) -> None:
    assert mind.impressions is not None
    row = np.repeat(np.arange(5_000), np.diff(mind.impressions.offset))
    assert len(mind.impressions.user) == 5_000 and (np.bincount(row, mind.impressions.clicked) > 0).all()
    split = PROTOCOLS["mind"].split(mind)
    assert split.train.impressions is not None
    assert min(len(split.train.impressions.user), len(split.valid), len(split.test)) > 200


@pytest.mark.parametrize("user", ["naml", "nrms", "lstur-ini", "lstur-con"])
def test_training_on_real_impressions_goes_the_right_way(mind: Dataset, user: str) -> None:
    """Few items of the sample have their text, so nothing is claimed of the figures."""
    split = PROTOCOLS["mind"].split(mind)
    model = make("plmnr", {"language_model": "words", "user": user, "training": {"epochs": 3}}).fit(split.train, FitOptions(quiet=True))
    found = evaluate(model, split.test, split.train)
    losses = [row["loss"] for row in model.provenance["curves"]]  # type: ignore[attr-defined]
    assert losses[-1] < losses[0] and all(0 < value < 1 for name, value in found.metrics.items() if name in found.interval)
