"""Small files in MIND's format, with something to learn: who read of a topic clicks on that topic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tongtu.data.synthetic import GROUP_WORDS

TOPICS = 5


def write_mind(folder: Path, users: int = 60, news: int = 120, impressions: int = 4, seed: int = 0) -> Path:
    """A folder with news.tsv and behaviors.tsv: impressions of six days, each with five to nine items and one or two clicks."""
    rng = np.random.default_rng(seed)
    topic = np.arange(news) % TOPICS
    titles = [" ".join(rng.permutation([*GROUP_WORDS[t], f"story {n}"])) for n, t in enumerate(topic)]
    rows = [f"N{n}\tnews\ttopic\t{title}\t\thttps://x\t[]\t[]" for n, title in enumerate(titles)]
    target = folder / "mind"
    target.mkdir(exist_ok=True)
    (target / "news.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    lines = []
    for user in range(users):
        taste = rng.integers(TOPICS)
        own = rng.permutation(np.flatnonzero(topic == taste))
        history = " ".join(f"N{n}" for n in own[:6])
        for _ in range(impressions):
            passed = rng.choice(np.flatnonzero(topic != taste), rng.integers(4, 8), replace=False)
            clicked = rng.choice(own[6:], rng.integers(1, 3), replace=False)
            shown = rng.permutation([*(f"N{n}-0" for n in passed), *(f"N{n}-1" for n in clicked)])
            day, hour = rng.integers(9, 15), rng.integers(1, 12)
            lines.append(f"{len(lines) + 1}\tU{user}\t11/{day}/2019 {hour}:05:58 AM\t{history}\t{' '.join(shown)}")
    (target / "behaviors.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target
