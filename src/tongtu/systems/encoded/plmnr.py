"""PLM-NR: a language model reads what users clicked, and learns from the clicks which texts a user wants next.

Paper: Wu et al., "Empowering News Recommendation with Pre-trained Language Models" (SIGIR 2021); user encoders of NAML (IJCAI 2019),
NRMS (EMNLP 2019) and LSTUR (ACL 2019).

An item is the pooled states of its text's tokens and a linear layer; a user is made of the vectors of the clicks; the score is the
dot product. A click learns against K = 4 items that were passed over in the same impression.

How ours differs: a log without impressions gets sampled ones (`tongtu.data.impressions`), which `provenance["impressions"]` tells;
the layers that stay frozen are computed once for the whole catalogue and not in every step; a batch encodes each of its items once;
the vectors that start from noise learn `1 / language_rate` times as fast as the language model (the paper has one rate for all,
for which it needs far more steps); no further self-attention over tokens, which its code has and its text has not; word embeddings
stay frozen even if all layers learn. An item without text is read as the empty text, and a user without clicks gets popularity.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from pydantic import Field
from torch import Tensor, nn

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import PAD, FitOptions, Offsets, Request, RequestBatch, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.data.impressions import Draw
from tongtu.errors import DataError
from tongtu.nn.answer import arrays_of, load_arrays, with_popularity
from tongtu.nn.batch import request_batch
from tongtu.nn.clicks import ClickedAmongShown
from tongtu.nn.pooling import PoolingKind, make_pooling
from tongtu.nn.user import UserKind, make_user_encoder
from tongtu.ranking import top_k
from tongtu.systems._catalogue import with_items
from tongtu.systems.encoded._clicks import training_clicks
from tongtu.text.tower import Texts, open_tower
from tongtu.train.loop import train
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_TEXTS_AT_ONCE = 64
_REQUESTS_AT_ONCE = 512


@configuration
class PLMNRConfig:
    """Settings of PLM-NR.

    Attributes:
        language_model: "minilm", "hf:NAME_OR_PATH" or "words"; see `tongtu.text.tower`.
        layers: How many of its last layers learn, or "all".
        tokens: Read of each text, special ones included.
        frozen: Where the states of the frozen layers are kept: on disk as "fp32" or "fp16", or nowhere ("none"), and then run each time.
        pooling: Of a text's tokens.
        user: Of a user's clicks; see `tongtu.nn.user`.
        width: Of item and user vectors; word vectors have it too.
        query: Width of the queries of additive attention.
        heads: Of the self-attention of nrms.
        dropout: Of token states and item vectors.
        max_length: Clicks of history that are read, the newest.
        negatives: Items passed over that each click learns against.
        against: Those alone ("impression"), or besides them every other item of the batch, which is encoded anyway ("batch"; ours).
        draw: How impressions are sampled where the data has none.
        passed_over: Items drawn for each sampled impression; each epoch takes `negatives` of them.
        newest: Learn from each user's newest so many clicks only; None takes all.
        language_rate: Learning rate of the language model's layers, as a share of `training.learning_rate`.
        training: How to train.
    """

    language_model: str = "minilm"
    layers: Annotated[int, Field(ge=0)] | Literal["all"] = 2
    tokens: Annotated[int, Field(ge=2, le=512)] = 32
    frozen: Literal["fp32", "fp16", "none"] = "fp32"
    pooling: PoolingKind = "attention"
    user: UserKind = "naml"
    width: Annotated[int, Field(ge=2)] = 64
    query: Annotated[int, Field(ge=1)] = 200
    heads: Annotated[int, Field(ge=1)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    max_length: Annotated[int, Field(ge=1, le=10_000)] = 50
    negatives: Annotated[int, Field(ge=1)] = 4
    against: Literal["impression", "batch"] = "impression"
    draw: Draw = "uniform"
    passed_over: Annotated[int, Field(ge=1)] = 20
    newest: Annotated[int, Field(ge=1)] | None = None
    language_rate: Annotated[float, Field(gt=0)] = 0.02
    training: Training = Field(default_factory=lambda: Training(epochs=5, patience=2, tokens=4096))

    def __post_init__(self) -> None:
        if self.user == "nrms" and self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class TextEncoder(nn.Module):
    """From texts to item vectors: the tower, pooling, and a linear layer."""

    def __init__(self, config: PLMNRConfig) -> None:
        super().__init__()
        keep = None if config.frozen == "none" else config.frozen
        self.tower: Any = open_tower(config.language_model, config.layers, config.tokens, config.width, keep)
        self.pool = make_pooling(config.pooling, self.tower.width, config.query)
        self.drop = nn.Dropout(config.dropout)
        self.out = nn.Linear(self.tower.width, config.width)

    def forward(self, texts: Texts, rows: npt.NDArray[np.int64]) -> Tensor:
        """Vectors [N, D] of some texts."""
        order = np.argsort(texts.length[rows], kind="stable")  # texts of one length go together: hardly any padding is computed
        parts = []
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            states, valid = self.tower.states(texts, rows[order[start : start + _TEXTS_AT_ONCE]])
            parts.append(self.pool(self.drop(states), valid))
        back = torch.from_numpy(np.argsort(order, kind="stable")).to(parts[0].device)
        out: Tensor = self.out(torch.cat(parts)[back])
        return out


class PLMNRNet(nn.Module):
    """Text encoder and user encoder; see `tongtu.nn.clicks.ClickModel`.

    Args:
        config: The settings.
        users: User codes, 0 included.
    """

    def __init__(self, config: PLMNRConfig, users: int) -> None:
        super().__init__()
        self.text = TextEncoder(config)
        self.user = _user_encoder(config, users)
        self.drop = nn.Dropout(config.dropout)
        self.texts: Texts | None = None
        self.rate_factors = {} if config.language_model == "words" else {"text.tower.": config.language_rate}

    def news(self, items: Tensor) -> Tensor:
        """Vectors [U, D] of distinct item codes."""
        assert self.texts is not None
        out: Tensor = self.drop(self.text(self.texts, items.cpu().numpy() - 1))
        return out


class PLMNR:
    """PLM-NR with a choice of language models, pooling and user encoders; see the module's text."""

    Config: ClassVar[type[PLMNRConfig]] = PLMNRConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets

    def __init__(self, config: PLMNRConfig | None = None) -> None:
        self.config = config or PLMNRConfig()
        self.provenance: dict[str, Any] = {}
        self._strangers = False

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from the impressions of `data`, or from sampled ones; with `options.validate`, the best epoch's weights are kept.

        Raises:
            DataError: If there are no texts, or no clicks with a history.
        """
        started, config = time.monotonic(), self.config
        if not (data.item_text != "").any():
            raise DataError(f"{data.name} has no item texts, which this system reads: import it with --items and --text")
        clicks, told = training_clicks(data, config, options.seed)
        self.items, self.item_text, self.counts = data.items, data.item_text, data.item_counts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            net = PLMNRNet(config, data.users.size)
        net.texts = net.text.tower.read(data.item_text.to_list(), options.quiet)
        self._user, self._users = net.user, data.users.size

        def measure() -> Mapping[str, float]:
            assert options.validate is not None
            self._vectors = _item_vectors(net.text, net.texts)
            return options.validate(self)

        objective = ClickedAmongShown(config.negatives, config.against == "batch")
        done = train(net, objective, clicks, config.training, options, None if options.validate is None else measure)
        net.to("cpu")
        self._vectors = _item_vectors(net.text, net.texts)
        self._arrays = arrays_of(net)
        self.provenance = {
            "seed": options.seed,
            "fit_seconds": time.monotonic() - started,
            "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
            "impressions": told,
            "epochs": done.epochs,
            "curves": done.curves,
        }
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Dot products of user and item vectors; popularity without a known item."""
        batch = RequestBatch.of(requests)
        scores: Scores = (torch.from_numpy(self.user_vectors(batch)) @ self._vectors[items].T).numpy()
        return with_popularity(scores, batch, self.counts, items)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """What the user encoder makes of the clicks; see `Represents`."""
        batch = RequestBatch.of(requests)
        vectors = np.zeros((len(batch), self.config.width), np.float32)
        with torch.inference_mode():
            for start in range(0, len(batch), _REQUESTS_AT_ONCE):
                part = batch[start : start + _REQUESTS_AT_ONCE]
                vectors[start : start + len(part)] = self._encode_users(part).numpy()
        return vectors

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same recommender for other items, without a refit; new texts are read now, for which the language model must be at hand.

        Args:
            items: Columns "id" and "text".
            keep: Adds the items that are not there yet; else the new one answers for exactly these items, where one with the id and
                the text of a known item is that item, and users are strangers to it, since their codes may be another log's.
        """
        found = with_items(self.items, self.item_text, items, keep)
        other = copy.copy(self)
        other._vectors = self._vectors[torch.from_numpy(found.old)]
        if found.new.any():
            other._vectors[1:][torch.from_numpy(found.new)] = self._encoded(found.text.filter(pl.Series(found.new)).to_list())
        other.items, other.item_text, other.counts = found.items, found.text, self.counts[found.old]
        other.counts[PAD] = 0
        other._strangers = self._strangers or not keep
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder: item vectors, user encoder, and the layers that learned."""
        hub.save(path, self, {**self._arrays, "vectors": self._vectors.numpy(), "counts": self.counts}, {"users": self._users, "strangers": self._strangers})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder; the language model need not be at hand."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.counts = folder.items, folder.item_text, folder.arrays["counts"]
        system._users, system._strangers = int(folder.facts["users"]), bool(folder.facts["strangers"])
        system._vectors = torch.from_numpy(folder.arrays["vectors"])
        system._arrays = {name: array for name, array in folder.arrays.items() if name.startswith("net.")}
        system._user = _user_encoder(system.config, system._users)
        load_arrays(system._user, {name.replace("net.user.", "net."): array for name, array in system._arrays.items() if name.startswith("net.user.")}, path)
        system.provenance = dict(folder.facts["provenance"])
        return system

    def _encode_users(self, requests: RequestBatch) -> Tensor:
        """Vectors [n, D] of who asks, from the clicks that are known; zeros where none is, also for a user with a vector of their own."""
        batch = request_batch(requests, self.config.max_length)
        unknown = requests.user is None or self._strangers
        user = torch.zeros(len(requests), dtype=torch.int64) if unknown else torch.from_numpy(np.asarray(requests.user)).clamp_min(0)
        device = next(self._user.parameters()).device
        out: Tensor = self._user(self._vectors[batch.item].to(device), batch.valid.to(device), user.to(device))
        return out.float().cpu() * batch.valid.any(1, keepdim=True)

    def _encoded(self, texts: list[str]) -> Tensor:
        """Vectors [n, D] of new texts."""
        encoder = TextEncoder(self.config)
        load_arrays(encoder, {name.replace("net.text.", "net."): array for name, array in self._arrays.items() if name.startswith("net.text.")}, "the model")
        return _item_vectors(encoder, encoder.tower.read(texts, quiet=True))[1:]


def _user_encoder(config: PLMNRConfig, users: int) -> nn.Module:
    return make_user_encoder(config.user, config.width, config.query, config.heads, config.dropout, users)


def _item_vectors(encoder: TextEncoder, texts: Texts | None) -> Tensor:
    """Vectors [V, D] of all texts, zeros for `PAD`; the encoder must be in evaluation mode."""
    assert texts is not None and not encoder.training
    with torch.inference_mode():
        vectors = encoder(texts, np.arange(len(texts))).float().cpu()
    return torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
