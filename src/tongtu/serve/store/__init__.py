"""The store of the service: users, items, events, API keys and the state of the model registry."""

from tongtu.serve.store.asynchronous import AsyncStore
from tongtu.serve.store.records import SCOPES, Counts, Event, History, Item, Key, Page, SavedModel, StoredEvent, User
from tongtu.serve.store.store import DEFAULT_URL, Store
from tongtu.serve.store.writer import StoreBusy

__all__ = [
    "DEFAULT_URL",
    "SCOPES",
    "AsyncStore",
    "Counts",
    "Event",
    "History",
    "Item",
    "Key",
    "Page",
    "SavedModel",
    "Store",
    "StoreBusy",
    "StoredEvent",
    "User",
]
