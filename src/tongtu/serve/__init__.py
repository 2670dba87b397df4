"""The service: HTTP API, web page, engine of worker processes, and the store of users, items and events."""
