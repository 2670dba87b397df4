// What the page asks for: who, with which history, attributes, wish and filters. Kept in the address, so that a reload or a link shows the same.

const EMPTY = { user: "", history: [], attributes: {}, forget: [], wish: "", filters: {}, diversity: 0, k: 10, models: [], reasons: true };

/** The present question. Read it freely; change it by `change`. */
export const session = structuredClone(EMPTY);

const listeners = new Set();

/** Titles of items met so far, by id. */
export const titles = new Map();

export function titleOf(id) {
  return titles.get(id) || id;
}

export function learnTitles(items) {
  for (const item of items) titles.set(item.id ?? item.item, item.title || item.text || (item.id ?? item.item));
}

export function onChange(listener) {
  listeners.add(listener);
}

/** Changes some of the question and tells everybody what changed. */
export function change(patch) {
  Object.assign(session, patch);
  remember();
  for (const listener of listeners) listener(patch);
}

export function choose(item) {
  learnTitles([item]);
  change({ history: [...session.history.filter((id) => id !== item.id), item.id] });
}

/** The body of a request for recommendations; what says nothing is left out. */
export function question(model) {
  const body = {};
  if (session.user) body.user = session.user;
  if (session.history.length) body.history = [...session.history];
  if (Object.keys(session.attributes).length) body.attributes = { ...session.attributes };
  if (session.forget.length) body.forget = [...session.forget];
  if (session.wish.trim()) body.wish = session.wish.trim();
  const filters = Object.fromEntries(Object.entries(session.filters).filter(([, values]) => values.length));
  if (Object.keys(filters).length) body.filters = filters;
  if (session.diversity > 0) body.diversity = session.diversity;
  body.k = session.k;
  if (model) body.model = model;
  return body;
}

function remember() {
  const address = new URLSearchParams();
  if (session.user) address.set("user", session.user);
  for (const id of session.history) address.append("item", id);
  for (const [name, value] of Object.entries(session.attributes)) address.append("attribute", JSON.stringify([name, value]));
  for (const name of session.forget) address.append("forget", name);
  if (session.wish.trim()) address.set("wish", session.wish.trim());
  for (const [field, values] of Object.entries(session.filters)) if (values.length) address.append("filter", JSON.stringify([field, ...values]));
  if (session.diversity > 0) address.set("diversity", session.diversity);
  if (session.k !== EMPTY.k) address.set("k", session.k);
  for (const model of session.models) address.append("model", model);
  history.replaceState(null, "", `#${address}`);
}

function lists(values) {
  return values.flatMap((text) => {
    try {
      const parsed = JSON.parse(text);
      return Array.isArray(parsed) && parsed.every((part) => typeof part === "string") ? [parsed] : [];
    } catch {
      return []; // an address that somebody typed; the rest of it still counts
    }
  });
}

function within(text, low, high, otherwise) {
  const value = Number(text);
  return text !== null && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : otherwise;
}

/** Takes the question from the address. */
export function restore() {
  const address = new URLSearchParams(location.hash.slice(1));
  Object.assign(session, structuredClone(EMPTY), {
    user: address.get("user") || "",
    history: [...new Set(address.getAll("item"))],
    attributes: Object.fromEntries(lists(address.getAll("attribute")).filter((pair) => pair.length === 2)),
    forget: address.getAll("forget"),
    wish: address.get("wish") || "",
    filters: Object.fromEntries(lists(address.getAll("filter")).map(([field, ...values]) => [field, values])),
    diversity: within(address.get("diversity"), 0, 1, 0),
    k: Math.round(within(address.get("k"), 1, 50, EMPTY.k)),
    models: address.getAll("model").slice(0, 3),
  });
}
