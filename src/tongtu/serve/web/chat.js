// The conversation: a message goes out, and stages, words and items come back one by one.

import { stream } from "./api.js";
import { bdi, byId, h, spoken } from "./dom.js";
import { choose, question, session } from "./session.js";
import { able, served } from "./settings.js";

let talk = null; // the id by which the service remembers the conversation
let running = null;

/** The model that is talked to: one of those shown, or else any that can. */
function partner() {
  return [...session.models, ...served.map((model) => model.name)].find((name) => able(name, "chat"));
}

function say(who, ...children) {
  const line = h("div", { class: `message ${who}` }, spoken(who === "mine" ? "You: " : "Answer: "), ...children);
  byId("chat-log").append(line);
  line.scrollIntoView({ block: "nearest" });
  return line;
}

function offered(items) {
  const pair = (item) => (Array.isArray(item) ? { id: item[0], title: item[1] } : item);
  const sign = () => h("span", { class: "sign", "aria-hidden": "true" }, "+");
  const button = (item) =>
    h("button", { type: "button", class: "pick", onclick: () => choose(item) }, sign(), bdi(item.title || item.id, { class: "title" }), spoken(", add to the history"));
  return h("ul", { class: "catalogue", "aria-label": "Recommended in this answer" }, ...items.map(pair).map((item) => h("li", {}, button(item))));
}

function part(line, { event, data }) {
  const waiting = line.querySelector(".stage");
  if (event === "stage") {
    waiting.textContent = `${data.stage.charAt(0).toUpperCase()}${data.stage.slice(1)}…`;
  } else if (event === "reply") {
    waiting.hidden = true;
    line.insertBefore(h("p", {}, bdi(data.text ?? data.reply ?? "")), waiting);
    if (data.degraded) line.append(h("p", { class: "note" }, "Degraded: ", bdi(data.degraded)));
  } else if (event === "items") {
    const items = Array.isArray(data) ? data : data.items || [];
    if (items.length) line.append(offered(items));
  } else if (event === "done") {
    talk = data.session ?? talk;
  } else if (event === "problem") {
    waiting.hidden = true;
    line.append(h("p", { class: "problem" }, data.detail || data.title || "The conversation broke off."));
  }
}

async function send(text) {
  const { user, history } = question(null);
  say("mine", h("p", {}, bdi(text)));
  const line = say("theirs", h("p", { class: "stage" }, "Thinking…"));
  running = new AbortController();
  busy(true);
  const turn = async () => {
    for await (const piece of stream("v1/chat", { session: talk ?? undefined, text, user, history, model: partner() }, running.signal)) part(line, piece);
  };
  try {
    await turn().catch((error) => {
      if (error.status !== 404 || talk === null) throw error;
      talk = null; // the service forgot the conversation, after half an hour or a restart: begin a new one
      return turn();
    });
  } catch (error) {
    line.append(h("p", { class: "problem" }, error.name === "AbortError" ? "Stopped." : error.message));
  } finally {
    line.querySelector(".stage").hidden = true;
    running = null;
    busy(false);
  }
}

function busy(on) {
  byId("chat-send").disabled = on;
  byId("chat-stop").hidden = !on;
}

/** Whoever cannot chat says so, instead of failing at the first message. */
export function drawChat() {
  const name = partner();
  byId("chat-form").hidden = name === undefined;
  const note = byId("chat-note");
  note.hidden = byId("chat-log").childElementCount > 0 && name !== undefined;
  if (name === undefined) note.replaceChildren("None of these models can hold a conversation: serve one whose items have texts, with ", h("code", {}, "--llm"), ".");
  else note.replaceChildren("Say what you are after; ", bdi(name), " answers with items of the catalogue.");
}

export function watchChat() {
  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("chat-text");
    const text = field.value.trim();
    if (!text || running) return;
    field.value = "";
    byId("chat-note").hidden = true;
    send(text);
  });
  byId("chat-stop").addEventListener("click", () => {
    running?.abort();
    byId("chat-text").focus();
  });
}
