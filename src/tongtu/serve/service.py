"""The service behind the routes: store, engine and models, and the questions that pass between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tongtu.errors import TongtuError
from tongtu.serve.asking import NOBODY, causes, check_limits, overlap, question, shorter, told
from tongtu.serve.call import Call
from tongtu.serve.catalogue import Catalogue
from tongtu.serve.engine.engine import Engine
from tongtu.serve.engine.messages import Answer, ModelFacts, Question, Reasons
from tongtu.serve.engine.registry import Registry
from tongtu.serve.engine.settings import EngineSettings
from tongtu.serve.histories import Histories
from tongtu.serve.limits import Admission, Rates
from tongtu.serve.problems import Problem
from tongtu.serve.schemas import CompareRequest, RecommendRequest
from tongtu.serve.security import Access, Guard
from tongtu.serve.sessions import Sessions
from tongtu.serve.settings import ServeSettings
from tongtu.serve.store.asynchronous import AsyncStore
from tongtu.serve.store.records import Item
from tongtu.serve.telemetry import Telemetry

EXPLAINED = 10
FEW = 2_000
"""As many items that pass the filters are handed to the model as candidates; of more, it is asked for more than k, and the rest is dropped."""
_SHADOWS = 4  # questions to a shadow at once; more are left out, so that a shadow never holds up anybody
_PAGE = 1000
_BATCH = 200
_TALKS = 8  # conversations that may wait for one talker: they take long, so they have room of their own

Log = Callable[..., None]


def no_log(event: str, level: str = "info", **facts: Any) -> None:
    """Say nothing."""


class Service:
    """All parts of a running service.

    Args:
        settings: How it runs.
        store: The open store.
        access: Whether keys are asked for.
        log: Writes a line.
    """

    def __init__(self, settings: ServeSettings, store: AsyncStore, access: Access, log: Log = no_log) -> None:
        self.settings, self.store, self.log = settings, store, log
        self.engine = Engine(_sizes(settings))
        self.registry = Registry(self.engine, store)
        self.catalogue = Catalogue(store)
        self.histories = Histories(store, settings.max_history, settings.history_cache, settings.history_seconds, time.monotonic)
        self.sessions = Sessions(time.monotonic)
        self.telemetry = Telemetry()
        self.guard = Guard(settings, access, store.find_key, time.monotonic)
        self.rates, self.admission = Rates(settings.rate, time.monotonic), Admission(settings.queue)
        self.talks = Admission(_TALKS * settings.talkers)
        self.model_roots: tuple[Path, ...] = ()
        self.report: bytes | None = None
        self.warm, self.draining = False, False
        self.failed: Exception | None = None
        self.began_well, self.ending = asyncio.Event(), asyncio.Event()
        self.on_failure: Callable[[], None] = _nothing
        self.aside: set[asyncio.Task[Any]] = set()

    def fail(self, error: Exception) -> None:
        """It could not be started: end it."""
        self.failed = error
        self.on_failure()

    def until(self, call: Call, facts: ModelFacts | None = None) -> float:
        """When a request's time is over, on the event loop's clock."""
        slow = facts is not None and facts.language_model
        return call.began + (self.settings.llm_deadline if slow else self.settings.deadline)

    def facts(self, user: str | None, model: str | None) -> ModelFacts:
        """The model that answers a user, or the one of a name.

        Raises:
            Problem: 503 while models are being loaded.
            UnknownVersion: If there is none of that name.
        """
        if not self.warm:
            raise Problem(503, "models are still being loaded: try again in 1 s", headers={"Retry-After": "1"})
        return self.registry.facts(self.registry.pick(user, model))

    async def recommend(self, asked: RecommendRequest, call: Call) -> dict[str, Any]:
        """Answer one question: items with what is known of them."""
        facts = self.facts(asked.user, asked.model)
        until = self.until(call, facts)
        async with asyncio.timeout_at(until):
            put = await self.question(asked)
            answer = await self.ask(facts, put, asked, until)
            found = await self._told(facts, put, asked, answer, call, until)
        self._shadow(facts, put, asked, answer)
        return found

    async def compare(self, asked: CompareRequest, call: Call) -> dict[str, Any]:
        """Put one question to several models."""
        one = [asked.model_copy(update={"model": name}) for name in asked.models]
        answers = await self.each([self.recommend(question, call) for question in one])
        lists = [[item["id"] for item in answer["items"]] for answer in answers]
        return {"answers": answers, "overlap": [[overlap(a, b) for b in lists] for a in lists]}

    async def recommend_many(self, asked: Sequence[RecommendRequest], call: Call) -> list[dict[str, Any]]:
        """Answer several questions; plain ones to one model are put to it together."""
        alike: dict[str, list[int]] = {}
        for place, one in enumerate(asked):
            facts = self.facts(one.user, one.model)
            alike.setdefault(f"alone {place}" if one.filters or one.explain else facts.version, []).append(place)
        groups = list(alike.values())
        answers = await self.each([self._together([asked[place] for place in group], call) for group in groups])
        found = {place: answer for group, some in zip(groups, answers, strict=True) for place, answer in zip(group, some, strict=True)}
        return [found[place] for place in range(len(asked))]

    async def _together(self, asked: Sequence[RecommendRequest], call: Call) -> list[dict[str, Any]]:
        if len(asked) == 1:
            return [await self.recommend(asked[0], call)]
        facts = self.facts(asked[0].user, asked[0].model)
        until = self.until(call, facts)
        async with asyncio.timeout_at(until):
            put = [await self.question(one) for one in asked]
            answers = await self.engine.recommend_many(facts.version, put, until)
            return [await self._told(facts, *one, call, until) for one in zip(put, asked, answers, strict=True)]

    async def each(self, work: Sequence[Any]) -> list[Any]:
        """Several pieces of work side by side; the first that fails ends them all, with its error."""
        tasks = [asyncio.ensure_future(piece) for piece in work]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def question(self, asked: RecommendRequest) -> Question:
        """The question for a model, with what the store knows of the user."""
        check_limits(asked, self.settings.max_k, self.settings.max_history)
        known = NOBODY if asked.user is None else await self.histories.of(asked.user)
        return question(asked, known, self.settings.max_history)

    async def ask(self, facts: ModelFacts, put: Question, asked: RecommendRequest, until: float) -> Answer:
        """The model's answer, with only items that pass the filters."""
        if not asked.filters:
            return await self.engine.recommend(facts.version, put, until)
        matching = await self.catalogue.matching(asked.filters)
        if len(matching) <= FEW:
            within = matching if put.candidates is None else [id for id in put.candidates if id in matching]
            answer = await self.engine.recommend(facts.version, replace(put, candidates=tuple(within)), until)
            unasked = frozenset() if put.candidates is not None else matching
            return replace(answer, unknown=tuple(id for id in answer.unknown if id not in unasked))
        k = put.k
        while True:
            k = min(4 * k, max(facts.items, put.k))
            answer = await self.engine.recommend(facts.version, replace(put, k=k), until)
            keep = [place for place, id in enumerate(answer.items) if id in matching][: put.k]
            if len(keep) == put.k or len(answer.items) < k or k >= facts.items:
                return shorter(answer, keep)

    async def reasons(self, facts: ModelFacts, put: Question, items: Sequence[str], until: float) -> list[Reasons]:
        """Why these items.

        Raises:
            Problem: 422 if the model cannot tell.
        """
        if "explain" not in facts.can:
            raise Problem(422, f"the model {facts.name} cannot give reasons: ask another, or leave explain out")
        return await self.engine.explain(facts.version, put, list(items), until)

    async def extend(self, items: Sequence[Item]) -> list[str]:
        """Make new items recommendable by every model that reads texts; the names of those that took them."""
        texts = [(item.id, item.text) for item in items]
        able = [facts for facts in self.registry.live() if "extend" in facts.can] if self.warm else []
        for facts in able:
            await self.engine.extend(facts.version, texts)
        current = {self.registry.pick(None, name) for name in self.registry.names()}
        return sorted({facts.name for facts in able if facts.version in current})

    async def install(self, name: str, path: Path) -> ModelFacts:
        """Serve a model folder under a name, beside or in place of what is there.

        Raises:
            ModelError: If it cannot be opened; then nothing changed.
        """
        facts = await self.registry.install(name, path)
        await self.adopt(facts)
        return facts

    async def adopt(self, facts: ModelFacts) -> None:
        """Know a model's items, and let it know those that were written before it came."""
        await self.catalogue.add_folder(facts.version, Path(facts.path))
        if "extend" in facts.can:
            await self._catch_up(facts)
        self.tidy()

    def tidy(self) -> None:
        """Forget what belongs to models that are served no longer."""
        self.catalogue.keep_only(facts.version for facts in self.registry.live())
        self.telemetry.models({name: self.registry.pick(None, name) for name in self.registry.names()})

    async def _catch_up(self, facts: ModelFacts) -> None:
        seq = 0
        while rows := await self.store.call(self.store.sync.items_since, seq, _PAGE):
            seq = rows[-1].seq
            new = [(item.id, item.text) for item in rows if item.text and not self.catalogue.known_to(facts.version, item.id)]
            if new:
                await self.engine.extend(facts.version, new)

    async def _told(self, facts: ModelFacts, put: Question, asked: RecommendRequest, answer: Answer, call: Call, until: float) -> dict[str, Any]:
        items = await self.catalogue.shown(answer.items)
        found = told(answer, items, {"model": facts.name, "version": facts.version}, call.id, len(put.history))
        if asked.explain and answer.items and put.history:
            if "explain" in facts.can:
                reasons = await self.engine.explain(facts.version, put, list(answer.items[:EXPLAINED]), until)
                titles = await self.catalogue.titles(list({item for reason in reasons for item, _ in reason.because}))
                why = {reason.item: causes(reason, titles) for reason in reasons}
                for row in found["items"]:
                    if row["id"] in why:
                        row["because"] = why[row["id"]]
            else:
                found["notes"]["explain"] = "not possible"
        found["took_ms"] = round(1000 * (asyncio.get_running_loop().time() - call.began), 3)
        return found

    def _shadow(self, facts: ModelFacts, put: Question, asked: RecommendRequest, answer: Answer) -> None:
        """Put a share of the questions to the shadow too, beside the answering, and note how far it agrees."""
        version = self.registry.shadow_for(asked.user, facts.version) if asked.model is None else None
        if version is None or len(self.aside) >= _SHADOWS:
            return
        self.beside(self._ask_shadow(version, facts, put, answer))

    async def _ask_shadow(self, version: str, facts: ModelFacts, put: Question, answer: Answer) -> None:
        shadow = self.registry.facts(version)
        patience = self.settings.llm_deadline if shadow.language_model else self.settings.deadline
        try:
            other = await self.engine.recommend(version, put, asyncio.get_running_loop().time() + patience)
        except TongtuError as error:
            self.log("shadow failed", "warning", model=shadow.name, reason=str(error))
            return
        self.telemetry.shadowed(f"{facts.name} | {shadow.name}", overlap(answer.items, other.items))

    def beside(self, work: Any) -> None:
        """Do something that nobody waits for."""
        task = asyncio.ensure_future(work)
        self.aside.add(task)
        task.add_done_callback(self.aside.discard)


def _nothing() -> None:
    """Whoever runs a service says what to do when it fails to start."""


def _sizes(settings: ServeSettings) -> EngineSettings:
    """The engine's settings. Requests are counted before they reach it; of one with many questions it must be able to hold them all."""
    room = settings.queue + _BATCH
    return EngineSettings(
        workers=settings.workers,
        talkers=settings.talkers,
        max_batch=settings.max_batch,
        queue=room,
        llm=settings.llm,
        ann_above=settings.ann_above,
    )
