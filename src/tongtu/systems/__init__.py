"""Every system Tongtu knows: its road, its paper and what it needs. Classes are imported only when one is used.

An installed package adds its own through the entry-point group "tongtu.systems" (name = "module:Class").
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, cast

from tongtu.config import build, nearest
from tongtu.core import Recommender
from tongtu.errors import ConfigError, MissingExtra


@dataclass(frozen=True)
class SystemCard:
    """What a person wants to know before choosing a system.

    Attributes:
        name: What to type.
        title: The name in reports.
        road: "baselines" or one of the roads: "behaviour", "encoded", "prompted", "tuned", "pretrained".
        where: "module:Class".
        paper: The source.
        needs: The data it needs besides a log, or "".
        extra: The optional package group it needs, or "".
        packages: Modules that must be importable.
    """

    name: str
    title: str
    road: str
    where: str
    paper: str
    needs: str = ""
    extra: str = ""
    packages: tuple[str, ...] = ()


_CARDS = (
    SystemCard("popular", "Popular", "baselines", "tongtu.systems.baselines.popular:Popular", "counts, optionally of a recent window"),
    SystemCard("grouppop", "Popular in the group", "baselines", "tongtu.systems.baselines.grouppop:GroupPopular", "counts by attributes", "user attributes"),
    SystemCard("userknn", "UserKNN", "baselines", "tongtu.systems.baselines.userknn:UserKNN", "Herlocker et al., SIGIR 1999", "user attributes, for new users"),
    SystemCard("itemknn", "ItemKNN", "baselines", "tongtu.systems.baselines.itemknn:ItemKNN", "Deshpande & Karypis, TOIS 2004"),
    SystemCard("rules", "Sequential rules", "baselines", "tongtu.systems.baselines.rules:SequentialRules", "Ludewig & Jannach, UMUAI 2018"),
    SystemCard("ease", "EASE", "baselines", "tongtu.systems.baselines.ease:EASE", "Steck, WWW 2019"),
    SystemCard("als", "ALS", "baselines", "tongtu.systems.baselines.als:ALS", "Hu, Koren & Volinsky, ICDM 2008", extra="baselines", packages=("implicit",)),
    SystemCard("bpr", "BPR", "baselines", "tongtu.systems.baselines.bpr:BPR", "Rendle et al., UAI 2009", extra="baselines", packages=("implicit",)),
    SystemCard("bm25", "BM25", "baselines", "tongtu.systems.baselines.bm25:BM25", "Robertson & Zaragoza, FnTIR 2009", needs="item texts"),
    SystemCard("lasttitle", "Last title", "baselines", "tongtu.systems.baselines.lasttitle:LastTitle", "search with the newest title", needs="item titles"),
    SystemCard(
        "filtered", "Filtered by wish", "baselines", "tongtu.systems.baselines.filtered:Filtered", "categories of the wish first", needs="item categories"
    ),
    SystemCard("sasrec", "SASRec", "behaviour", "tongtu.systems.behaviour.sasrec:SASRec", "Kang & McAuley, ICDM 2018; Klenitskiy & Vasilev, RecSys 2023"),
    SystemCard("bert4rec", "BERT4Rec", "behaviour", "tongtu.systems.behaviour.bert4rec:BERT4Rec", "Sun et al., CIKM 2019"),
    SystemCard("hstu", "HSTU", "behaviour", "tongtu.systems.behaviour.hstu:HSTU", "Zhai et al., ICML 2024", needs="times, for its time-aware attention"),
    SystemCard("plmnr", "PLM-NR", "encoded", "tongtu.systems.encoded.plmnr:PLMNR", "Wu et al., SIGIR 2021", needs="item texts; impressions, or samples them"),
    SystemCard("unisrec", "UniSRec", "encoded", "tongtu.systems.encoded.unisrec:UniSRec", "Hou et al., KDD 2022", needs="item texts"),
    SystemCard("ppr", "PPR", "pretrained", "tongtu.systems.pretrained.ppr:PPR", "Wu et al., TKDE 2024", needs="user attributes, for personal prompts"),
    SystemCard("pfrec", "PFRec", "pretrained", "tongtu.systems.pretrained.pfrec:PFRec", "Wu et al., SIGIR 2022", needs="user attributes, to forget"),
    SystemCard("finetuning", "Fine-tuning", "pretrained", "tongtu.systems.pretrained.finetuning:FineTuning", "Houlsby et al., ICML 2019; Hu et al., ICLR 2022"),
    SystemCard("chatrec", "Chat-REC", "prompted", "tongtu.systems.prompted.chatrec:ChatREC", "Gao et al., 2023", needs="item titles, a language model"),
    SystemCard("llmrank", "LLMRank", "prompted", "tongtu.systems.prompted.llmrank:LLMRank", "Hou et al., ECIR 2024", needs="item titles, a language model"),
    SystemCard("p5", "P5", "tuned", "tongtu.systems.tuned.p5:P5", "Geng et al., RecSys 2022; Xu et al., SIGIR 2024"),
    SystemCard(
        "tiger", "TIGER", "tuned", "tongtu.systems.tuned.tiger:TIGER", "Rajput et al., NeurIPS 2023", "item texts", extra="ann", packages=("faiss",)
    ),
    SystemCard("instructrec", "InstructRec", "tuned", "tongtu.systems.tuned.instructrec:InstructRec", "Zhang et al., 2023", needs="item titles"),
    SystemCard("gpt4rec", "GPT4Rec", "tuned", "tongtu.systems.tuned.gpt4rec:GPT4Rec", "Li et al., 2023", needs="item titles"),
    SystemCard("textknn", "Text nearest neighbours", "encoded", "tongtu.systems.encoded.textknn:TextKNN", "cosine of text vectors", needs="item texts"),
)


def cards() -> Mapping[str, SystemCard]:
    """Every system by name, those of installed packages included."""
    known = {card.name: card for card in _CARDS}
    for point in entry_points(group="tongtu.systems"):
        known.setdefault(point.name, SystemCard(point.name, point.name, "other", point.value, f"installed package {point.dist.name if point.dist else '?'}"))
    return known


def missing_packages(card: SystemCard) -> list[str]:
    """The optional packages a system needs and does not find."""
    return [package for package in card.packages if find_spec(package) is None]


def system_class(name: str) -> Any:
    """The class of a system, imported now.

    Raises:
        ConfigError: If there is no such system; the message names the nearest.
        MissingExtra: If its optional packages are not installed.
    """
    known = cards()
    if name not in known:
        raise ConfigError(f"no system {name!r}, {nearest(name, known)}")
    card = known[name]
    if missing_packages(card):
        raise MissingExtra(card.title, card.extra)
    module, _, attribute = card.where.partition(":")
    return getattr(importlib.import_module(module), attribute)


def make(name: str, settings: Mapping[str, Any] | None = None) -> Recommender:
    """An unfitted system with its configuration built from plain values.

    Raises:
        ConfigError: For an unknown system, key or value.
    """
    kind = system_class(name)
    return cast(Recommender, kind(build(kind.Config, settings or {}, f"system {name}")))
