// The present request as code to take along. The key stays out of it: code is copied into places where keys do not belong.

import { key } from "./api.js";
import { announce, byId } from "./dom.js";
import { question, session } from "./session.js";

let language = "curl";

function shell(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function curl(address, body) {
  const lines = [`curl ${shell(address)}`, "-H 'Content-Type: application/json'"];
  if (key()) lines.push('-H "Authorization: Bearer $TONGTU_KEY"');
  return [...lines, `-d ${shell(JSON.stringify(body))}`].join(" \\\n  ");
}

/** A JSON value as Python writes it; strings of JSON are strings of Python. */
function literal(value) {
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value !== null && typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${literal(name)}: ${literal(one)}`).join(", ")}}`;
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

function python(address, body) {
  const parameters = Object.entries(body).map(([name, value]) => `        ${name}=${literal(value)},`);
  return [
    "from tongtu.client import Client",
    "",
    ...(key() ? ["# The key is read from the environment: TONGTU_KEY"] : []),
    `with Client(${literal(address)}) as service:`,
    "    answer = service.recommend(",
    ...parameters,
    "    )",
    "for item in answer.items:",
    "    print(item.rank, item.id, item.title, item.score)",
  ].join("\n");
}

export function drawSnippet() {
  const service = new URL(".", document.baseURI).href;
  const body = question(session.models[0]);
  byId("snippet").textContent = language === "curl" ? curl(`${service}v1/recommend`, body) : python(service.replace(/\/$/, ""), body);
}

async function copy() {
  const code = byId("snippet");
  try {
    await navigator.clipboard.writeText(code.textContent);
    announce("Copied.");
    byId("snippet-copy").textContent = "Copied";
    setTimeout(() => (byId("snippet-copy").textContent = "Copy"), 1500);
  } catch {
    getSelection().selectAllChildren(code); // no clipboard here, say over plain HTTP: the code is marked, ready for the keys
    announce("Marked: copy it with the keyboard.");
  }
}

export function watchSnippet() {
  const buttons = byId("snippet-panel").querySelectorAll("[data-language]");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      language = button.dataset.language;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      drawSnippet();
    });
  }
  byId("snippet-copy").addEventListener("click", copy);
}
