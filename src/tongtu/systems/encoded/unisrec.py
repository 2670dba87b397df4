"""UniSRec: item texts are read by a frozen encoder, and what is learned from one catalogue's behaviour carries over to another's.

Paper: Hou et al., "Towards Universal Sequence Representation Learning for Recommender Systems" (KDD 2022).

How ours differs: any encoder of `tongtu.text.encoder`, its vectors brought to length 1; an expert of the adaptor drops
the same features of all items in a step; all positions of a sequence train at once; the softmax is over the items that occur in training, so that new ones
are not pushed away; excluded negatives count as nothing (in the authors' code as one); everything is tuned by default, where the
authors freeze the Transformer (`tune = "adaptor"`).

    tongtu fit unisrec --data OWN --out model                                              from scratch: always the control
    tongtu fit unisrec --data A --set 'pretrain=["A","B"]' --set tune=none --out base      pre-trained on A and B, not adapted
    tongtu fit unisrec --data OWN --set base=base --out model                              fine-tuned from there
    tongtu evaluate base --data OWN                                                        zero-shot on a catalogue it never saw
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import polars as pl
import torch
from pydantic import Field

from tongtu import hub
from tongtu.config import configuration
from tongtu.core import FitOptions, Offsets, Request, Scores, TopK
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError, DataError
from tongtu.nn.adaptor import MixtureAdaptor
from tongtu.nn.answer import arrays_of, load_arrays
from tongtu.nn.losses import LossConfig, make_loss
from tongtu.nn.sequence import BodyConfig
from tongtu.nn.text_sequence import NextText, TextSequenceNet, TextSequences, Vectors, seen_codes
from tongtu.nn.transformer import BlockKind
from tongtu.ranking import top_k
from tongtu.systems._catalogue import with_items
from tongtu.systems.behaviour import sequence
from tongtu.systems.encoded._catalogue import catalogue_vectors, reader_of, same_encoder
from tongtu.systems.encoded._pretraining import Pretraining, forget, pretrained, sources
from tongtu.text.encoder import ItemEncoder, open_encoder
from tongtu.train.batches import training_sequences
from tongtu.train.settings import Training
from tongtu.vocab import Vocab

_FROZEN = ("position", "distance", "blocks")
_INHERITED = ("encoder", "experts", *(field.name for field in dataclasses.fields(BodyConfig) if field.name != "dropout"))


@configuration
class UniSRecConfig(BodyConfig):
    """Settings of UniSRec: those of its body (`BodyConfig`), its texts, what it starts from, and how it learns.

    Attributes:
        encoder: Who reads the item texts, see `tongtu.text.encoder.open_encoder`.
        mode: Items are their "text" alone, or "text+id": a vector of their own is added, at the input and to be compared with.
        experts: Whitenings that the adaptor mixes.
        whitening_dropout: Of the text vectors.
        base: A UniSRec model folder to start from.
        pretrain: Data sets, folders or public names, to pre-train on before anything else; instead of `base`.
        tune: Whether "all" weights learn from the data fitted on, all but the Transformer ("adaptor", the paper's way), or "none".
        windows: Learn each user's newest `max_length` events ("last") or the whole history in windows ("all").
        loss: Which loss.
        training: How to train on the data.
        pretraining: How to pre-train.
    """

    inner: Annotated[float, Field(gt=0)] = 1
    block: BlockKind = "sasrec"
    encoder: str = "minilm"
    mode: Literal["text", "text+id"] = "text+id"
    experts: Annotated[int, Field(ge=1)] = 8
    whitening_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    base: str | None = None
    pretrain: tuple[str, ...] = ()
    tune: Literal["all", "adaptor", "none"] = "all"
    windows: Literal["last", "all"] = "last"
    loss: LossConfig = Field(default_factory=lambda: LossConfig(temperature=0.07))
    training: Training = Field(default_factory=Training)
    pretraining: Pretraining = Field(default_factory=Pretraining)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base and self.pretrain:
            raise ValueError("base is a model that is pre-trained already: give base or pretrain, not both")
        if self.tune != "all" and not (self.base or self.pretrain):
            raise ValueError(f"tune = '{self.tune}' leaves weights as they are: say with base or pretrain where they come from")


class UniSRec:
    """UniSRec; see the module's text."""

    Config: ClassVar[type[UniSRecConfig]] = UniSRecConfig
    items: Vocab
    item_text: pl.Series | None
    counts: Offsets
    vectors: Vectors
    net: TextSequenceNet
    reader: Mapping[str, Any]

    def __init__(self, config: UniSRecConfig | None = None) -> None:
        self.config = config or UniSRecConfig()
        self.provenance: dict[str, Any] = {}

    def fit(self, data: Dataset, options: FitOptions = FitOptions()) -> Self:  # noqa: B008 (frozen)
        """Learn from every event of `data`, after what `base` or `pretrain` brings; with `options.validate`, the best epoch's weights are kept."""
        started = time.monotonic()
        weights, facts = self._start(data, options)
        encoder = open_encoder(self.config.encoder)
        self.vectors, self.reader = catalogue_vectors(encoder, data.item_text, options.quiet), reader_of(encoder)
        if self.config.mode == "text" and not self.vectors.any():
            raise DataError(f"{data.name}: no item has a text, so there is nothing to read: import it with text columns, or set mode=text+id")
        network = partial(_network, self.config, self.vectors, weights, data.item_counts if self.config.tune != "none" else np.zeros_like(data.item_counts))
        if self.config.tune == "none":
            self._adopt(data, options, network())
        else:
            seen = data.item_counts[seen_codes(data.item_counts)]
            objective = NextText(make_loss(self.config.loss, seen), data.item_counts)
            found = training_sequences(data, self.config.max_length + 1, self.config.windows)
            examples = TextSequences(found.item, found.stop, found.length, user=found.user, vectors=self.vectors)
            sequence.learn(self, data, options, network, objective, examples, self.config.training)
        forget(options)
        self.provenance |= {"fit_seconds": time.monotonic() - started, "text": dict(self.reader), **facts}
        return self

    def score(self, requests: Sequence[Request], items: slice) -> Scores:
        """Cosines over the temperature of the last state with the items; popularity without a known item, which in a foreign catalogue is 0 for all."""
        return sequence.score(self, requests, items, self.config.max_length)

    def user_vectors(self, requests: Sequence[Request]) -> Scores:
        """The last states; see `Represents`."""
        return sequence.user_vectors(self, requests, self.config.max_length)

    def query_vectors(self, requests: Sequence[Request]) -> Scores:
        """See `Indexable`."""
        return sequence.query_vectors(self, requests, self.config.max_length)

    def item_vectors(self) -> Scores:
        """See `Indexable`."""
        return sequence.item_vectors(self)

    def recommend(self, requests: Sequence[Request], k: int) -> TopK:
        """The best `k` items for each request."""
        return top_k(self, requests, k)

    def with_items(self, items: pl.DataFrame, keep: bool = True) -> Self:
        """The same model for other items, without a refit; their texts are read now.

        Args:
            items: Columns "id" and "text".
            keep: Adds the items that are not there yet; else the new model answers for exactly these items, and one that has the
                id and the text of a known item is that item.
        """
        found = with_items(self.items, self.item_text, items, keep)
        vectors = self.vectors[found.old]
        if found.new.any():
            vectors[1:][found.new] = catalogue_vectors(self._encoder(), found.text.filter(pl.Series(found.new)), quiet=True)[1:]
        weights = self.net.state_dict()
        if self.net.id is not None:
            weights["id.weight"] = weights["id.weight"][torch.from_numpy(found.old)]
        other = copy.copy(self)
        other.items, other.item_text, other.vectors, other.counts = found.items, found.text, vectors, self.counts[found.old]
        other.counts[0] = 0
        other.net = _bare(self.config, vectors)
        other.net.load_state_dict(weights)
        other.net.eval()
        other.provenance = dict(self.provenance)
        return other

    def save_pretrained(self, path: Path) -> None:
        """Write a model folder; it opens without the encoder, which is needed only for new texts."""
        hub.save(path, self, {**arrays_of(self.net), "counts": self.counts, "vectors": self.vectors}, {"text": dict(self.reader)})

    @classmethod
    def from_pretrained(cls, path: Path) -> Self:
        """Open a model folder."""
        folder = hub.read(path, cls)
        system = cls(hub.restore_config(folder, cls.Config))
        system.items, system.item_text, system.counts = folder.items, folder.item_text, folder.arrays["counts"]
        system.vectors, system.reader = folder.arrays["vectors"], folder.facts["text"]
        system.provenance = dict(folder.facts["provenance"])
        system.net = _bare(system.config, system.vectors)
        load_arrays(system.net, folder.arrays, path)
        return system

    def _start(self, data: Dataset, options: FitOptions) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Weights to start from, if any, and what to write down about them."""
        config = self.config
        if config.base:
            base = type(self).from_pretrained(Path(config.base))
            self.config = _inheriting(config, base.config)
            base._encoder()
            weights = {name: tensor for name, tensor in base.net.state_dict().items() if not name.startswith("id.")}
            return weights, {"base": {name: base.provenance[name] for name in ("pretraining", "seed") if name in base.provenance}}
        if config.pretrain:
            encoder, logs = open_encoder(config.encoder), sources(config.pretrain, data)
            plain_text = dataclasses.replace(config, mode="text")
            done = pretrained(logs, encoder, partial(_bare, plain_text), config.pretraining, config.max_length + 1, options, config.windows)
            return done.weights, {"pretraining": done.facts}
        return {}, {}

    def _adopt(self, data: Dataset, options: FitOptions, net: TextSequenceNet) -> None:
        """Take the catalogue of `data`, and learn nothing from it but how often items occur."""
        self.items, self.item_text, self.counts, self.net = data.items, data.item_text, data.item_counts, net.eval()
        self.provenance = {"seed": options.seed, "parameters": sum(p.numel() for p in net.parameters()), "epochs": 0, "curves": []}

    def _encoder(self) -> ItemEncoder:
        return same_encoder(self.config.encoder, self.reader)


def _bare(config: UniSRecConfig, vectors: Vectors, trained: Offsets | None = None) -> TextSequenceNet:
    """The network before it has learned anything."""
    adaptor = MixtureAdaptor(vectors.shape[1], config.width, config.experts, config.whitening_dropout)
    return TextSequenceNet(config, adaptor, vectors, config.mode == "text+id", None if trained is None else trained > 0)


def _network(config: UniSRecConfig, vectors: Vectors, weights: Mapping[str, torch.Tensor], counts: Offsets) -> TextSequenceNet:
    """The network as training finds it: with the weights it starts from, and what stays frozen."""
    net = _bare(config, vectors, counts)
    if weights:
        net.load_state_dict(weights, strict=False)
    if config.tune == "adaptor":
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(not name.startswith(_FROZEN))
    return net


def _inheriting(config: UniSRecConfig, base: UniSRecConfig) -> UniSRecConfig:
    """The settings with sizes and encoder of the base.

    Raises:
        ConfigError: If one of them was given and differs.
    """
    usual = type(config)()
    for name in _INHERITED:
        own, needed = getattr(config, name), getattr(base, name)
        if own not in (needed, getattr(usual, name)):
            raise ConfigError(f"{name} = {own!r}, but the model {config.base} has {needed!r}: leave it out, or start from another base")
    return dataclasses.replace(config, **{name: getattr(base, name) for name in _INHERITED})
