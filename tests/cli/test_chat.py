"""`tongtu chat` from standard input, with the unigram model, a real server and none at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import chat_server
from typer.testing import CliRunner

from tongtu import Request, open_model
from tongtu.cli import app
from tongtu.core import FitOptions
from tongtu.data.folder import save_dataset
from tongtu.data.synthetic import attribute_world
from tongtu.llm.ledger import Budget
from tongtu.systems.prompted._templates import Words
from tongtu.systems.prompted.chatrec import ChatREC, ChatRECConfig

Chat = Callable[..., Any]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chat:
    """Run a conversation of these lines in this process."""
    monkeypatch.setenv("TONGTU_CACHE", str(tmp_path / "cache"))
    return lambda lines, *arguments: CliRunner().invoke(app, ["chat", *(str(one) for one in arguments)], input="\n".join(lines) + "\n")


def test_talks_and_obeys_commands(chat: Chat, model: Path, tmp_path: Path) -> None:
    ids = open_model(model).items.ids.to_list()
    lines = ["espresso, please", "no jazz", "/why 1", "/history", "/conditions", "/forget", "/conditions", "/help", "/nonsense", "", "/quit", "never read"]
    result = chat(lines, model, "--llm", "unigram", "--history", f"{ids[0]},nobody", "--attribute", "club=jazz")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("you> ") == 10 and "never read" not in result.stdout and "never saw them: nobody" in result.stderr
    assert result.stdout.count("1. ") >= 2 and "(left out: jazz)" in result.stdout
    after = result.stdout.split("you> /conditions")
    assert "no jazz" in after[1] and "none so far" in after[2] and f"[{ids[0]}]" in result.stdout.split("you> /history")[1]
    assert "no command /nonsense" in result.stdout


def test_over_a_server_what_is_outside_is_marked(chat: Chat, model: Path) -> None:
    def answer(body: dict[str, Any]) -> str | int:
        if "tools" in body:
            return 400
        last = body["messages"][-1]["content"].split("\n\n")[-1]
        return "no" if last.startswith(("Must", "Is what")) else "[B] it suits you" if last.startswith("Choose") or "SEARCH" in last else "Paris"

    with chat_server(answer) as server:
        result = chat(["What is the capital of France?", "/ask And of Spain?"], model, "--llm", f"openai:tiny@{server.url}", "--set", "tries=1")
    assert result.exit_code == 0 and result.stdout.count("Not from the catalogue, and not checked: Paris") == 2


def test_a_dead_server_is_told_and_the_recommender_answers(chat: Chat, model: Path) -> None:
    with chat_server(lambda body: "x") as server:
        url = server.url
    result = chat(["anything"], model, "--llm", f"openai:tiny@{url}", "--set", "tries=1", "--set", "top=3")
    recommender = open_model(model)
    expected = recommender.items.decode(recommender.recommend([Request()], 3).items[0])
    assert result.exit_code == 0 and "degraded: openai:tiny" in result.stderr
    rows = [line for line in result.stdout.splitlines() if line[:1].isdigit()]
    assert [f"[{one}]" in row for one, row in zip(expected, rows, strict=True)] == [True] * 3


def test_the_state_is_kept_and_new_items_are_found(chat: Chat, model: Path, tmp_path: Path) -> None:
    new, state = tmp_path / "new.csv", tmp_path / "state.json"
    new.write_text("id,text\nn1,Lighthouse in a storm\n", encoding="utf-8")
    arguments = (model, "--llm", "unigram", "--new-items", new, "--state", state)
    result = chat(["a lighthouse, but no jazz"], *arguments)
    assert result.exit_code == 0 and "Lighthouse in a storm [n1] (new)" in result.stdout
    for options in (arguments, (model, "--llm", "unigram", "--state", state)):
        result = chat(["/conditions"], *options)
        assert "no jazz" in result.stdout, result.stderr
        assert [one["id"] for one in json.loads(state.read_text(encoding="utf-8"))["new items"]] == ["n1"]


def test_what_is_said_of_the_user_now_goes_before_what_the_state_has(chat: Chat, model: Path, tmp_path: Path) -> None:
    ids, state = open_model(model).items.ids.to_list(), tmp_path / "state.json"

    def user(*options: str) -> dict[str, Any]:
        result = chat(["/history"], model, "--llm", "unigram", "--state", state, *options)
        assert result.exit_code == 0, result.output
        return dict(json.loads(state.read_text(encoding="utf-8"))["user"])

    user("--history", ids[0], "--attribute", "club=jazz", "--attribute", "age=9")
    assert user() == user() and user()["history"] == [ids[0]] and user()["forget"] == []
    again = user("--history", ids[1], "--attribute", "age=10", "--forget", "club")
    assert (again["history"], again["attributes"], again["forget"]) == ([ids[1]], {"club": "jazz", "age": "10"}, ["club"])


def test_a_user_of_the_data_and_a_chatrec_model(chat: Chat, tmp_path: Path) -> None:
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    save_dataset(data, tmp_path / "data")
    ChatREC(ChatRECConfig(llm="unigram", top=2)).fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "model")
    result = chat(["/history", "something"], tmp_path / "model", "--data", tmp_path / "data", "--user", "user-1")
    assert result.exit_code == 0, result.output
    assert all(f"[{one}]" in result.stdout for one in data.items.decode(data.history(1)))
    assert sum(line[:3] in ("1. ", "2. ", "3. ") for line in result.stdout.splitlines()) == 2, "top comes from the model"


def test_a_chatrec_model_brings_its_settings_along(chat: Chat, tmp_path: Path) -> None:
    data = attribute_world(users=60, items=30, length=9, seed=1).data
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        asked.append(body["messages"][-1]["content"])
        return "hm"

    with chat_server(answer) as server:
        config = ChatRECConfig(llm=f"openai:tiny@{server.url}", words=Words(things="tunes"), budget=Budget(tokens=10))
        ChatREC(config).fit(data, FitOptions(quiet=True)).save_pretrained(tmp_path / "model")
        refused = chat(["something"], tmp_path / "model")
        assert refused.exit_code == 2 and "the budget of 10 tokens would be exceeded" in refused.stderr and not asked
        result = chat(["something"], tmp_path / "model", "--set", "budget.tokens=100000", "--set", "words.acted=heard")
    assert result.exit_code == 0 and any("tunes I have heard" in text for text in asked), result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "user-1"], "--user needs --data"),
        (["--new-items", "no/such.csv"], "check --new-items"),
        (["--llm", "unigramm"], "did you mean 'unigram'"),
        (["--set", "toop=3"], "unknown key 'toop'"),
        (["--attribute", "gender"], "--attribute gender=F"),
    ],
)
def test_mistakes_are_one_line(chat: Chat, model: Path, arguments: list[str], said: str) -> None:
    result = chat(["hm"], model, *arguments)
    assert result.exit_code == 2 and said in result.stderr and result.stderr.splitlines()[-1].startswith("error: ")
