// The catalogue: search it page by page, and add what it shows to the history.

import { call, newest } from "./api.js";
import { bdi, byId, h, spoken } from "./dom.js";
import { choose, learnTitles, session, titleOf } from "./session.js";

const PAGE = 12;
const MANY = 40; // a field with more values than this is no way to filter by hand

/** field -> values that items of the catalogue carry, most frequent first. */
export const facets = new Map();

let cursor = null;

export function valuesOf(item, field) {
  const value = item.fields?.[field];
  return (Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]).map(String);
}

/** What an item says of itself in a line: its listed values, then its short ones. */
export function subtitle(item) {
  const fields = Object.entries(item.fields || {}).filter(([name]) => name !== "title");
  const listed = fields.filter(([, value]) => Array.isArray(value)).flatMap(([, value]) => value.slice(0, 3));
  const short = fields.filter(([, value]) => !Array.isArray(value) && value !== null && String(value).length <= 24).map(([, value]) => value);
  const words = [...listed, ...short].slice(0, 4).map(String);
  return words.length ? words.join(" · ") : (item.text || "").slice(0, 80);
}

function row(item) {
  const chosen = session.history.includes(item.id);
  const button = h(
    "button",
    { type: "button", class: "pick", "aria-pressed": String(chosen), data: { id: item.id }, onclick: () => choose(item) },
    h("span", { class: "sign", "aria-hidden": "true" }, chosen ? "✓" : "+"),
    h("span", { class: "words" }, bdi(item.title || item.id, { class: "title" }), bdi(subtitle(item), { class: "sub" })),
    spoken(chosen ? ", chosen" : ", add to the history"),
  );
  return h("li", {}, button);
}

/** Marks what is chosen, without losing the keyboard's place. */
export function markChosen() {
  for (const button of byId("catalogue").querySelectorAll("button.pick")) {
    const chosen = session.history.includes(button.dataset.id);
    if (button.getAttribute("aria-pressed") === String(chosen)) continue;
    button.setAttribute("aria-pressed", String(chosen));
    button.querySelector(".sign").textContent = chosen ? "✓" : "+";
    button.querySelector(".spoken").textContent = chosen ? ", chosen" : ", add to the history";
  }
}

async function page(after, signal) {
  const list = byId("catalogue");
  const note = byId("catalogue-note");
  const query = byId("catalogue-query").value.trim();
  list.setAttribute("aria-busy", "true");
  try {
    const found = await call("GET", "v1/items", { signal, query: { query, category: byId("catalogue-category").value, limit: PAGE, cursor: after } });
    if (signal?.aborted) return;
    learnTitles(found.items);
    if (!after) list.replaceChildren();
    list.append(...found.items.map(row));
    cursor = found.next || null;
    const none = query ? `Nothing in the catalogue matches “${query}”.` : "The catalogue is empty: add items by PUT /v1/items/{id}, or start the service with --data.";
    note.textContent = list.childElementCount ? "" : none;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    note.textContent = error.message;
  } finally {
    if (!signal?.aborted) {
      list.setAttribute("aria-busy", "false");
      byId("catalogue-more").hidden = cursor === null;
    }
  }
}

const search = newest((signal) => {
  cursor = null;
  return page(null, signal);
}, 200);

function count(items) {
  const seen = new Map();
  for (const item of items) {
    for (const field of Object.keys(item.fields || {})) {
      const values = seen.get(field) || seen.set(field, new Map()).get(field);
      for (const value of valuesOf(item, field)) values.set(value, (values.get(value) || 0) + 1);
    }
  }
  return seen;
}

/** Learns from a page of the catalogue which fields one can filter by. */
export async function learnFacets() {
  const { items } = await call("GET", "v1/items", { query: { limit: 100 } });
  facets.clear();
  for (const [field, values] of count(items)) {
    const repeated = [...values].filter(([, times]) => times > 1).length;
    if (values.size > 1 && values.size <= MANY && repeated * 2 >= values.size) {
      facets.set(field, [...values].sort((a, b) => b[1] - a[1]).map(([value]) => value));
    }
  }
}

/** The field that holds the items' category, or undefined. */
export function categoryField() {
  return [...facets.keys()].find((field) => /^(categor|genre)/i.test(field));
}

function offerCategories() {
  const select = byId("catalogue-category");
  const values = [...(facets.get(categoryField()) || [])].sort((a, b) => a.localeCompare(b));
  select.hidden = values.length === 0;
  select.replaceChildren(h("option", { value: "" }, "Every category"), ...values.map((value) => h("option", { value }, value)));
}

/** Titles of ids that came from the address. */
export async function learnMissing(ids) {
  await Promise.allSettled(ids.filter((id) => titleOf(id) === id).slice(0, 50).map(async (id) => learnTitles([await call("GET", `v1/items/${encodeURIComponent(id)}`)])));
}

export function watchCatalogue() {
  byId("catalogue-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search(0);
  });
  byId("catalogue-query").addEventListener("input", () => search());
  byId("catalogue-category").addEventListener("change", () => search(0));
  byId("catalogue-more").addEventListener("click", () => cursor !== null && page(cursor));
}

export async function startCatalogue() {
  search(0);
  await learnFacets().catch(() => {}); // the search beside it tells what is wrong
  offerCategories();
}
