// The service's API: JSON in and out, errors as problems, answers in pieces as server-sent events.

const KEPT = "tongtu-key";

/** What the service answered instead of an answer. */
export class Problem extends Error {
  constructor(status, facts, retryAfter = null) {
    super(facts.detail || facts.title || `the service answered ${status}`);
    this.status = status;
    this.title = facts.title || "";
    this.requestId = facts.request_id || "";
    this.reasons = facts.reasons || [];
    this.retryAfter = retryAfter;
  }
}

export function key() {
  return sessionStorage.getItem(KEPT) || "";
}

export function setKey(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
  document.dispatchEvent(new Event("tongtu-key"));
}

async function problem(response) {
  const facts = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("Retry-After"));
  if (response.status === 401) document.dispatchEvent(new Event("tongtu-locked"));
  return new Problem(response.status, facts, Number.isFinite(wait) && wait > 0 ? wait : null);
}

async function ask(method, path, { body, query, signal } = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query || {})) if (value !== undefined && value !== null && value !== "") address.searchParams.set(name, value);
  const headers = { Accept: "application/json, text/event-stream, application/problem+json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key()) headers.Authorization = `Bearer ${key()}`;
  let response;
  try {
    response = await fetch(address, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { title: "No answer", detail: "The service does not answer. It may be restarting, or the connection is gone." });
  }
  if (!response.ok) throw await problem(response);
  return response;
}

/** The JSON that the service answers. Throws Problem, or an AbortError when `signal` fired. */
export async function call(method, path, options) {
  const response = await ask(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** Ids may hold slashes, spaces and anything else. */
export function segment(id) {
  return encodeURIComponent(id);
}

/** The events of a stream: [{event, data}], as they come. */
export async function* stream(path, body, signal) {
  const response = await ask("POST", path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    waiting += done ? "\n\n" : value;
    const blocks = waiting.replaceAll("\r\n", "\n").split("\n\n");
    waiting = done ? "" : blocks.pop();
    for (const block of blocks) {
      const parsed = event(block);
      if (parsed) yield parsed;
    }
    if (done) return;
  }
}

function event(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event: name, data: JSON.parse(data.join("\n")) } : null;
}

/**
 * Runs `work(signal)` for the newest call only: waits for a pause, aborts what still runs, and lets late answers fall.
 * `work` checks `signal.aborted` after each wait; what it throws after an abort is dropped.
 */
export function newest(work, pause) {
  let timer = 0;
  let running = null;
  return (wait = pause) => {
    clearTimeout(timer);
    running?.abort();
    const mine = new AbortController();
    running = mine;
    timer = setTimeout(async () => {
      try {
        await work(mine.signal);
      } catch (error) {
        if (!mine.signal.aborted) throw error;
      }
    }, wait);
  };
}

/** A random key by which the service knows an event that is sent twice. */
export function eventKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
