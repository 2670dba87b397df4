"""What the API answers, over real models, workers and store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, fitted

from tongtu.data.dataset import Dataset


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Dataset]:
    return fitted(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def served(models: tuple[dict[str, Path], Dataset], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("store")
    given = tuple(f"{name}={path}" for name, path in models[0].items())
    running = Served(models=given, store=f"sqlite:///{folder / 'store.db'}", deadline=10.0)
    yield running
    running.close()


def good(served: Served, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> Any:
    answer = served.ask(method, path, body, **more)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    return answer.json()


def ids(answer: Any) -> list[str]:
    return [item["id"] for item in answer["items"]]


def first(models: tuple[dict[str, Path], Dataset], n: int = 3) -> list[str]:
    data = models[1]
    return list(data.items.decode(data.history(1)[:n]))


def test_a_history_gets_recommendations_with_titles(served: Served, models: Any) -> None:
    history = first(models)
    answer = good(served, "POST", "/v1/recommend", {"history": history, "k": 5})
    assert len(answer["items"]) == 5
    assert not set(ids(answer)) & set(history)
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3, 4, 5]
    assert all(item["title"] and item["text"] for item in answer["items"])
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert (answer["model"], answer["history_length"], answer["unknown"]) == ("ease", 3, [])
    assert answer["version"] == good(served, "GET", "/v1/models/ease")["version"]


def test_the_same_as_the_model_itself_says(served: Served, models: Any) -> None:
    from tongtu.core import Request
    from tongtu.hub import open_model

    history = first(models)
    model = open_model(models[0]["ease"])
    top = model.recommend([Request(history=model.items.encode(history))], 7)
    expected = list(model.items.decode(top.items[0]))
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 7})) == expected


def test_events_count_at_once(served: Served, models: Any) -> None:
    one, two, three = first(models)
    user = "u/\u202e ü"
    nobody = ids(good(served, "POST", "/v1/recommend", {"user": user, "k": 5}))
    assert good(served, "POST", "/v1/events", {"user": user, "item": one, "key": "a"}, 201) == {"accepted": 1, "duplicates": 0}
    seen = good(served, "POST", "/v1/recommend", {"user": user, "k": 5})
    assert ids(seen) != nobody
    assert seen["history_length"] == 1
    assert good(served, "POST", "/v1/events", {"user": user, "item": two, "key": "a"}) == {"accepted": 0, "duplicates": 1}
    batch = {"events": [{"user": user, "item": two, "key": "b", "rating": 3}, {"user": user, "item": one, "key": "a"}]}
    assert good(served, "POST", "/v1/events/batch", batch, 201) == {"accepted": 1, "duplicates": 1}
    assert good(served, "POST", "/v1/events", {"user": user, "item": three}, 201, headers={"Idempotency-Key": "c"})["accepted"] == 1
    assert good(served, "POST", "/v1/events", {"user": user, "item": three}, headers={"Idempotency-Key": "c"})["duplicates"] == 1
    after = good(served, "POST", "/v1/recommend", {"user": user, "k": 5})
    assert ids(after) == ids(good(served, "POST", "/v1/recommend", {"history": [one, two, three], "k": 5}))
    told = good(served, "GET", "/v1/users/u%2F%E2%80%AE%20%C3%BC")
    assert told["id"] == user
    assert [event["item"] for event in told["history"]] == [one, two, three]
    assert [event["rating"] for event in told["history"]] == [None, 3.0, None]
    assert good(served, "DELETE", "/v1/users/u%2F%E2%80%AE%20%C3%BC") == {"id": user, "events": 3}
    assert ids(good(served, "POST", "/v1/recommend", {"user": user, "k": 5})) == nobody
    assert served.ask("GET", "/v1/users/u%2F%E2%80%AE%20%C3%BC").status_code == 404


def test_a_given_history_stands_behind_the_stored_one(served: Served, models: Any) -> None:
    one, two, three = first(models)
    good(served, "POST", "/v1/events", {"user": "joined", "item": one}, 201)
    joined = good(served, "POST", "/v1/recommend", {"user": "joined", "history": [two, {"item": three, "rating": 1}], "k": 6})
    assert joined["history_length"] == 3
    assert ids(joined) == ids(good(served, "POST", "/v1/recommend", {"history": [one, two, three], "k": 6}))


def test_candidates_and_what_is_excluded(served: Served, models: Any) -> None:
    history = first(models)
    some = ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 20}))
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "candidates": [some[7], some[3], "nothing"], "k": 5})) == [some[3], some[7]]
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "exclude": some[:3], "k": 2})) == some[3:5]
    again = good(served, "POST", "/v1/recommend", {"history": history, "exclude_seen": False, "k": 80})
    assert set(history) <= set(ids(again))
    assert good(served, "POST", "/v1/recommend", {"history": ["nothing", history[0]]})["unknown"] == ["nothing"]


def test_filters(served: Served, models: Any) -> None:
    history = first(models)
    some = ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 20}))
    for place, id in enumerate(some):
        body = {"text": f"text {place}", "fields": {"kind": ["odd" if place % 2 else "even", "all"], "year": 2000 + place % 2, "new": False}}
        good(served, "PUT", f"/v1/items/{id}", body)
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 5, "filters": {"kind": ["odd"]}})) == some[1:11:2]
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 5, "filters": {"kind": ["all"], "year": ["2000"]}})) == some[0:10:2]
    assert ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 5, "filters": {"kind": ["none"]}})) == []
    within = {"history": history, "k": 5, "filters": {"kind": ["odd"]}, "candidates": some[:4]}
    assert ids(good(served, "POST", "/v1/recommend", within)) == [some[1], some[3]]


def test_filters_that_most_items_pass(served: Served, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    history = first(models)
    few = good(served, "POST", "/v1/recommend", {"history": history, "k": 3, "filters": {"kind": ["odd"]}})
    monkeypatch.setattr("tongtu.serve.service.FEW", 2)
    many = good(served, "POST", "/v1/recommend", {"history": history, "k": 3, "filters": {"kind": ["odd"]}})
    assert ids(many) == ids(few)
    assert len(ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 30, "filters": {"kind": ["odd"]}}))) == 10


def test_a_new_item_is_recommended_at_once_by_a_model_that_reads_texts(served: Served, models: Any) -> None:
    history = first(models)
    text = good(served, "GET", f"/v1/items/{history[-1]}")["text"]
    answer = good(served, "PUT", "/v1/items/brand%20new", {"text": text, "title": "Brand new"})
    assert answer == {"id": "brand new", "recommendable": ["textknn"]}
    found = good(served, "POST", "/v1/recommend", {"history": [history[-1]], "k": 5, "model": "textknn"})
    assert "brand new" in ids(found)
    assert next(item["title"] for item in found["items"] if item["id"] == "brand new") == "Brand new"


def test_reasons(served: Served, models: Any) -> None:
    history = first(models)
    answer = good(served, "POST", "/v1/recommend", {"history": history, "k": 12, "explain": True})
    assert all({cause["id"] for cause in item["because"]} <= set(history) for item in answer["items"][:10])
    assert any(item["because"] for item in answer["items"])
    asked = good(served, "POST", "/v1/explain", {"history": history, "items": ids(answer)[:2]})
    assert [reason["item"] for reason in asked["reasons"]] == ids(answer)[:2]
    assert asked["reasons"][0]["because"] == answer["items"][0]["because"]
    assert all(cause["title"] for cause in asked["reasons"][0]["because"])


def test_several_questions_and_several_models(served: Served, models: Any) -> None:
    history = first(models)
    asked = [{"history": history, "k": 3}, {"k": 2, "model": "popular"}, {"history": history[:1], "k": 4}, {"history": history, "k": 3, "explain": True}]
    answers = good(served, "POST", "/v1/recommend/batch", {"requests": asked})["answers"]
    for question, answer in zip(asked, answers, strict=True):
        assert answer["items"] == good(served, "POST", "/v1/recommend", question)["items"]
    compared = good(served, "POST", "/v1/compare", {"history": history, "k": 5, "models": ["ease", "popular", "ease"]})
    assert [answer["model"] for answer in compared["answers"]] == ["ease", "popular", "ease"]
    assert compared["overlap"][0][2] == 1.0
    a, b = (set(ids(answer)) for answer in compared["answers"][:2])
    assert compared["overlap"][0][1] == pytest.approx(len(a & b) / len(a | b), abs=1e-4)


def test_similar_items(served: Served, models: Any) -> None:
    one = first(models)[0]
    answer = good(served, "GET", f"/v1/items/{one}/similar?k=4&model=textknn")
    assert len(answer["items"]) == 4
    assert one not in ids(answer)
    assert served.ask("GET", "/v1/items/nothing/similar").status_code == 404


def test_pages_of_items(served: Served, models: Any) -> None:
    found, cursor = [], ""
    while True:
        page = good(served, "GET", f"/v1/items?limit=17{cursor}")
        found += ids(page)
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == sorted(set(found))
    assert set(models[1].items.ids) <= set(found)
    hit = good(served, "GET", "/v1/items?query=Brand NEW")
    assert ids(hit) == ["brand new"]
    assert served.ask("GET", "/v1/items?cursor=____").status_code == 422
    assert served.ask("GET", "/v1/items?limit=201").status_code == 422


def test_users(served: Served) -> None:
    for name in ("p1", "p2", "p3"):
        good(served, "PUT", f"/v1/users/{name}", {"attributes": {"age": "7"}})
    page = good(served, "GET", "/v1/users?query=p&limit=2")
    assert [user["id"] for user in page["users"]] == ["p1", "p2"]
    assert [user["id"] for user in good(served, "GET", f"/v1/users?query=p&cursor={page['next']}")["users"]] == ["p3"]
    assert good(served, "GET", "/v1/users/p1") == {"id": "p1", "attributes": {"age": "7"}, "history": [], "events": 0}


def test_ids_of_any_characters(served: Served) -> None:
    for path, id in (("%0Aa%0A", "\na\n"), ("a%2Fb%2F", "a/b/"), ("%E2%80%AE", "\u202e")):
        assert good(served, "PUT", f"/v1/users/{path}", {"attributes": {}})["id"] == id
        assert good(served, "GET", f"/v1/users/{path}")["id"] == id
        assert good(served, "DELETE", f"/v1/users/{path}")["id"] == id


def test_rerank(served: Served, models: Any) -> None:
    history = first(models)
    some = ids(good(served, "POST", "/v1/recommend", {"history": history, "k": 6}))
    text = good(served, "GET", f"/v1/items/{some[1]}")["text"]
    documents = [some[5], {"id": some[0], "text": "whatever"}, text]
    answer = good(served, "POST", "/v1/rerank", {"query": "", "documents": documents, "history": history, "return_documents": True})
    assert [result["index"] for result in answer["results"]] == [1, 2, 0]
    assert answer["results"][0]["relevance_score"] == 1.0
    assert answer["results"][0]["document"] == documents[1]
    assert len(good(served, "POST", "/v1/rerank", {"query": "", "documents": documents, "top_n": 1})["results"]) == 1
    assert "documents.0" in served.ask("POST", "/v1/rerank", {"query": "x", "documents": ["no such thing"]}).json()["detail"]


def test_a_model_is_put_in_rolled_back_and_taken_out(served: Served, models: Any, tmp_path: Path) -> None:
    assert good(served, "POST", "/v1/models/other", {"path": "popular"})["system"] == "Popular"
    assert served.ask("POST", "/v1/models/other/rollback").status_code == 409
    swapped = good(served, "POST", "/v1/models/other", {"path": "ease"})
    assert swapped["system"] == "EASE"
    began = time.monotonic()
    assert good(served, "POST", "/v1/models/other/rollback")["system"] == "Popular"
    assert time.monotonic() - began < 1
    folder = models[0]["ease"].parent
    damaged = folder / "damaged"
    damaged.mkdir()
    for file in models[0]["ease"].iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            content[-1] ^= 1
        (damaged / file.name).write_bytes(bytes(content))
    refused = served.ask("POST", "/v1/models/other", {"path": "damaged"})
    assert refused.status_code == 422
    assert "model.safetensors" in refused.json()["detail"]
    assert good(served, "GET", "/v1/models/other")["system"] == "Popular"
    (folder / "link").symlink_to(tmp_path)
    for path in ("/etc", "../ease", "link", ".", "ease/../../ease", "no-such", "ease\u0000"):
        assert served.ask("POST", "/v1/models/other", {"path": path}).status_code == 422, path
    assert served.ask("POST", "/v1/models/..%2Fother", {"path": "ease"}).status_code in (404, 405, 422)
    assert [model["name"] for model in good(served, "DELETE", "/v1/models/other")["models"]] == ["ease", "popular", "textknn"]
    assert served.ask("POST", "/v1/recommend", {"model": "other"}).status_code == 404


def test_traffic_is_split_by_user_and_a_shadow_is_asked_too(served: Served) -> None:
    body = {"split": {"ease": 0.5, "popular": 0.5}, "shadow": {"model": "textknn", "share": 1.0}}
    assert good(served, "PUT", "/v1/traffic", body)["split"] == {"ease": 0.5, "popular": 0.5}
    got = {name: good(served, "POST", "/v1/recommend", {"user": name, "k": 1})["model"] for name in map(str, range(24))}
    assert set(got.values()) == {"ease", "popular"}
    assert all(good(served, "POST", "/v1/recommend", {"user": name, "k": 2})["model"] == model for name, model in got.items())
    shares = {model["name"]: (model["share"], model["shadow"]) for model in good(served, "GET", "/v1/models")["models"]}
    assert shares["textknn"] == (0.0, 1.0)
    assert good(served, "GET", "/v1/stats")["shadow_overlap"]
    assert served.ask("PUT", "/v1/traffic", {"split": {"ease": 0.5}}).status_code == 422
    assert served.ask("PUT", "/v1/traffic", {"split": {"nobody": 1}}).status_code == 404
    good(served, "PUT", "/v1/traffic", {"split": {"ease": 1.0}})


def test_health_metrics_and_figures(served: Served) -> None:
    assert good(served, "GET", "/health/live")["status"] == "alive"
    assert good(served, "GET", "/health/ready")["status"] == "ready"
    metrics = served.ask("GET", "/metrics").text
    assert 'tongtu_requests_total{route="/v1/recommend",status="200"}' in metrics
    assert 'tongtu_request_seconds_bucket{le="0.005",route="/v1/recommend"}' in metrics
    assert 'tongtu_model_info{name="ease"' in metrics
    assert "tongtu_ranking_waiting" in metrics
    stats = good(served, "GET", "/v1/stats")
    assert stats["latency_ms"]["/v1/recommend"]["p50"] > 0
    assert stats["store"]["events"] > 0
    assert served.ask("GET", "/v1/report").status_code == 404


def test_not_ready_without_its_store(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.service.store.sync, "ready", lambda: False)
    answer = served.ask("GET", "/health/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the store does not answer"]


def test_headers_of_every_answer(served: Served) -> None:
    for path in ("/health/live", "/v1/models", "/v1/nothing", "/docs"):
        headers = served.ask("GET", path, headers={"X-Request-ID": "mine-1"}).headers
        assert headers["x-request-id"] == "mine-1"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


def test_problems_are_told_as_problems(served: Served) -> None:
    for answer in (
        served.ask("GET", "/v1/nothing"),
        served.ask("DELETE", "/v1/recommend"),
        served.ask("POST", "/v1/recommend", {"k": 1001}),
        served.ask("POST", "/v1/recommend", content=b"{", headers={"content-type": "application/json"}),
        served.ask("POST", "/v1/recommend", content=b"{}", headers={"content-type": "text/plain"}),
        served.ask("GET", "/v1/items/none"),
        served.ask("GET", "/v1/models", headers={"Host": "evil.example"}),
        served.ask("GET", "/v1/models", headers={"Sec-Fetch-Site": "cross-site"}),
    ):
        assert answer.headers["content-type"] == "application/problem+json"
        told = answer.json()
        assert told["status"] == answer.status_code
        assert {"type", "title", "detail", "instance", "request_id"} <= told.keys()
    assert [served.ask("GET", "/v1/models", headers={"Host": host}).status_code for host in ("evil.example", "localhost:9", "[::1]:9")] == [421, 200, 200]


def test_a_deadline_ends_the_work(served: Served, models: Any) -> None:
    service = served.service
    stuck = [worker.pid for worker in service.engine._ranking.workers]
    object.__setattr__(service.settings, "deadline", 0.5)
    try:
        for pid in stuck:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        answer = served.ask("POST", "/v1/recommend", {"history": first(models)})
        took = time.monotonic() - began
        live_began = time.monotonic()
        assert served.ask("GET", "/health/live").status_code == 200
        assert time.monotonic() - live_began < 0.05 * 4
    finally:
        object.__setattr__(service.settings, "deadline", 10.0)
        for pid in stuck:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
    assert answer.status_code == 504
    assert 0.5 <= took < 0.5 + 0.1 * 3
    assert service.admission.inside == 0

    async def answered() -> None:
        while (await served.asking("POST", "/v1/recommend", {"history": first(models)})).status_code != 200:
            await asyncio.sleep(0.2)

    served.run(asyncio.wait_for(answered(), 60))


def test_beyond_its_room_it_sends_away_at_once(served: Served, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.service.admission, "most", 3)

    async def crowd() -> list[int]:
        answers = await asyncio.gather(*(served.asking("POST", "/v1/recommend", {"history": first(models)}) for _ in range(40)))
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        return [answer.status_code for answer in answers]

    statuses = served.run(crowd())
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 3
    assert served.service.admission.inside == 0


def test_the_description_is_whole(served: Served) -> None:
    described = good(served, "GET", "/openapi.json")
    text = json.dumps(described)
    names = {reference.split('"')[0] for reference in text.split('"#/components/schemas/')[1:]}
    assert names <= described["components"]["schemas"].keys()
    assert "HTTPValidationError" not in text
    for path, operations in described["paths"].items():
        for method, told in operations.items():
            assert told["summary"] and told["description"], (method, path)
            if method in ("post", "put") and not path.endswith("rollback"):
                name = told["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
                assert described["components"]["schemas"][name]["examples"], name
    page = served.ask("GET", "/docs").text
    assert "<script" not in page
    assert "/v1/recommend" in page
