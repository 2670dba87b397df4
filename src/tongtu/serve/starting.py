"""How a service comes up and goes down: data and models are loaded while it already says that it lives, and is not ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tongtu.errors import ConfigError, TongtuError
from tongtu.serve.engine.messages import Question
from tongtu.serve.service import Service

_OPENING = 600.0  # seconds that a language model may take to be opened
_GREETING = "hello"
_GIVEN = "models given"  # the setting that remembers the folders of the last start


async def warm_up(service: Service, folders: dict[str, Path]) -> None:
    """Load data and models; `Service.failed` tells why, if that is not possible.

    Args:
        service: Which.
        folders: Models to serve, by name.
    """
    try:
        await asyncio.gather(_load_data(service), _load_models(service, folders))
    except TongtuError as error:
        service.fail(error)
        return
    except Exception as error:
        service.log("failed to start", "error", exc_info=error)
        service.fail(error)
        return
    service.warm = True
    service.tidy()
    service.log("ready", models={name: service.registry.pick(None, name) for name in service.registry.names()})
    service.began_well.set()
    if service.settings.llm is not None:
        service.beside(_open_talk(service))


async def close(service: Service) -> None:
    """End the work beside the answering, the workers, and the store."""
    for task in list(service.aside):
        task.cancel()
    await asyncio.gather(*service.aside, return_exceptions=True)
    await service.engine.close(1.0)
    await service.store.close()


async def _open_talk(service: Service) -> None:
    """Let a talker open the language model before anybody waits for it: that can take longer than a turn may, and would begin anew each time."""
    facts = service.facts(None, None)
    if "chat" not in facts.can:
        return
    until = asyncio.get_running_loop().time() + _OPENING
    try:
        async for _ in service.engine.talk(facts.version, Question(k=1), _GREETING, None, until):
            pass
    except TongtuError as error:
        service.log("the language model does not talk", "warning", reason=str(error))


async def _load_data(service: Service) -> None:
    name = service.settings.data
    if name is None:
        return

    def load_and_seed() -> None:
        from tongtu.data.public import load
        from tongtu.serve.store.seed import seed

        seed(service.store.sync, load(name))

    await asyncio.to_thread(load_and_seed)


async def _load_models(service: Service, folders: dict[str, Path]) -> None:
    await service.engine.start()
    await _forget_ungiven(service, folders)
    await service.registry.restore()
    for name, path in folders.items():
        if name not in service.registry.names():
            await service.registry.install(name, path)
    if not service.registry.names():
        raise ConfigError("there is no model to serve: name a model folder, as in `tongtu serve MODEL`, or make one with `tongtu fit`")
    await service.registry.order(list(folders))
    if folders:
        await service.store.call(service.store.sync.save_setting, _GIVEN, {name: str(path.resolve()) for name, path in folders.items()})
    for facts in service.registry.live():
        await service.adopt(facts)


async def _forget_ungiven(service: Service, folders: dict[str, Path]) -> None:
    """What was swapped in since the last start goes on; what was given then, and now is not or from another folder, does not.

    A start without any model goes on with all.
    """
    if not folders:
        return
    store = service.store
    before = await store.call(store.sync.setting, _GIVEN) or {}
    rows = await store.call(store.sync.models)
    kept = [row for row in rows if row.name not in before or (row.name in folders and before[row.name] == str(folders[row.name].resolve()))]
    if len(kept) < len(rows):
        await store.call(store.sync.save_models, kept)
