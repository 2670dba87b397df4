// The recommendations: one column a model, asked anew at every change of the question, and what the lists have in common.
// Each model is asked by itself: a slow language model must not hold back the list of a fast one, nor one failure hide the others.

import { call, newest } from "./api.js";
import { Column } from "./column.js";
import { announce, bdi, byId, h, plural, s } from "./dom.js";
import { able } from "./settings.js";
import { learnTitles, onChange, question, session } from "./session.js";

const PAUSE = 140; // milliseconds; short enough to feel like at once, long enough for a click's neighbours
const REASONS = 10; // the service explains that many items in a request

const columns = new Map(); // by model name, in the order of the question

function arrange() {
  for (const [name, column] of columns) {
    if (session.models.includes(name)) continue;
    column.root.remove();
    columns.delete(name);
  }
  for (const name of session.models) if (!columns.has(name)) columns.set(name, new Column(name));
  const roots = session.models.map((name) => columns.get(name).root);
  const box = byId("columns");
  if (roots.some((root, at) => box.children[at] !== root)) box.replaceChildren(...roots);
  box.dataset.columns = String(roots.length);
}

async function answer(name, signal) {
  const column = columns.get(name);
  column.wait();
  const started = performance.now();
  try {
    const found = await call("POST", "v1/recommend", { body: question(name), signal });
    if (signal.aborted) return;
    learnTitles(found.items);
    column.show(found, performance.now() - started);
  } catch (error) {
    if (signal.aborted) throw error;
    column.fail(error);
  }
}

async function explain(name, signal) {
  const column = columns.get(name);
  if (!session.reasons || !column.answer?.items.length || !able(name, "explain")) return;
  const { user, history, attributes } = question(name);
  if (!user && !history) return;
  try {
    const items = column.answer.items.slice(0, REASONS).map((item) => item.id);
    const { reasons } = await call("POST", "v1/explain", { body: { user, history, attributes, items, model: name }, signal });
    if (!signal.aborted) column.because(reasons);
  } catch (error) {
    if (signal.aborted) throw error;
    column.unexplained(error);
  }
}

function ids(name) {
  return columns.get(name)?.answer?.items.map((item) => item.id) || [];
}

function dots(shared, of) {
  const picture = s("svg", { viewBox: `0 0 ${of * 10} 8`, width: Math.min(of * 10, 160), height: 8, "aria-hidden": "true", class: "dots" });
  for (let at = 0; at < of; at += 1) picture.append(s("circle", { cx: at * 10 + 4, cy: 4, r: 3.4, class: at < shared ? "on" : "off" }));
  return picture;
}

/** What each pair of lists shares, in words and as dots. */
function drawOverlap() {
  const names = session.models.filter((name) => ids(name).length);
  const lines = names.flatMap((one, at) =>
    names.slice(at + 1).map((other) => {
      const shared = ids(one).filter((id) => ids(other).includes(id)).length;
      const of = Math.max(ids(one).length, ids(other).length);
      return h("p", {}, dots(shared, of), h("span", {}, bdi(one), " and ", bdi(other), ` share ${shared} of ${of}`));
    }),
  );
  byId("overlap").replaceChildren(...lines);
}

function markShared() {
  for (const name of session.models) {
    const elsewhere = (id) => session.models.filter((other) => other !== name).flatMap((other) => (ids(other).includes(id) ? [[other, ids(other).indexOf(id) + 1]] : []));
    columns.get(name).share(elsewhere);
  }
}

function tell() {
  const good = session.models.map((name) => columns.get(name)).filter((column) => column.answer);
  if (!good.length) return;
  const [first] = good;
  const top = first.answer.items[0];
  announce(`${plural(first.answer.items.length, "recommendation")} from ${good.map((column) => column.name).join(" and ")}${top ? `; first ${top.title || top.id}` : ""}.`);
}

async function all(signal) {
  arrange();
  await Promise.all(
    session.models.map(async (name) => {
      await answer(name, signal);
      if (signal.aborted) return;
      drawOverlap();
      markShared();
    }),
  );
  if (signal.aborted) return;
  tell();
  await Promise.all(session.models.map((name) => explain(name, signal)));
}

const refresh = newest(all, PAUSE);

/** Points out the same item in every list. */
function pointOut(event) {
  const id = event.target.closest?.("li[data-id]")?.dataset.id;
  for (const line of byId("columns").querySelectorAll("li[data-id]")) line.classList.toggle("same", id !== undefined && line.dataset.id === id);
}

/** Asks every model anew, after a pause. */
function ask(wait) {
  refresh(wait);
}

export function watchResults() {
  for (const name of ["pointerover", "focusin"]) byId("columns").addEventListener(name, pointOut);
  byId("columns").addEventListener("again", () => ask(0));
  onChange(() => {
    arrange();
    for (const name of session.models) columns.get(name).wait();
    ask();
  });
}
