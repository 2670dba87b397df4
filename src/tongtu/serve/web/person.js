// Who is asked for: somebody new, or a user of the store with attributes and a history; and telling the store what was chosen.

import { call, eventKey, newest, segment } from "./api.js";
import { announce, bdi, byId, figure, h, plural } from "./dom.js";
import { change, learnTitles, session, titleOf } from "./session.js";

const PAGE = 12;

/** The chosen user as the store knows them, or null. */
export let person = null;

/** name -> values met in the store's users, to offer while typing. */
export const known = new Map();

let pages = [null]; // cursors of the pages before and up to this one

function learn(attributes) {
  for (const [name, value] of Object.entries(attributes || {})) {
    const values = known.get(name) || known.set(name, new Set()).get(name);
    if (values.size < 100) values.add(String(value));
  }
}

function describe(attributes) {
  return Object.entries(attributes || {}).map(([name, value]) => `${name} ${value}`).join(" · ");
}

function userRow(user) {
  const words = h("span", { class: "words" }, bdi(user.id, { class: "title" }), bdi(describe(user.attributes), { class: "sub" }));
  const events = user.events === undefined ? null : h("span", { class: "sub" }, plural(user.events, "event"));
  return h("li", {}, h("button", { type: "button", class: "pick", onclick: () => pick(user.id) }, words, events));
}

const search = newest(async (signal) => {
  const query = byId("people-query").value.trim();
  const note = byId("people-note");
  try {
    const found = await call("GET", "v1/users", { signal, query: { query, limit: PAGE, cursor: pages.at(-1) } });
    if (signal.aborted) return;
    found.users.forEach((user) => learn(user.attributes));
    byId("people-list").replaceChildren(...found.users.map(userRow));
    note.textContent = found.users.length ? "" : query ? "Nobody with such an id." : "The store knows no users yet.";
    byId("people-next").disabled = !found.next;
    byId("people-next").onclick = () => (pages.push(found.next), search(0));
    byId("people-back").disabled = pages.length < 2;
    const unknown = query && !found.users.some((user) => user.id === query);
    byId("people-new").hidden = !unknown;
    byId("people-new").replaceChildren("Use ", bdi(query), " as a new user");
  } catch (error) {
    if (error.name === "AbortError") throw error;
    note.textContent = error.message;
  }
}, 200);

async function pick(id) {
  byId("people").close();
  change({ user: id, attributes: {}, forget: [] });
}

/** Reads the chosen user from the store; a new id is as good as one that is there. */
export async function loadPerson() {
  const id = session.user;
  if (!id) {
    person = null;
    return;
  }
  try {
    const found = await call("GET", `v1/users/${segment(id)}`);
    if (session.user !== id) return;
    person = found;
    learn(found.attributes);
    learnTitles(found.history || []);
  } catch (error) {
    person = { id, attributes: {}, history: [], events: 0, problem: error.status === 404 ? null : error.message };
  }
}

function stored() {
  const lines = person.history.toReversed().map((event) => h("li", {}, bdi(titleOf(event.item)), event.rating ? h("span", { class: "sub" }, ` ${figure(event.rating)}`) : null));
  return h("details", {}, h("summary", {}, `${plural(person.events, "event")} in the store`), h("ol", { class: "stored", "aria-label": "Newest events of this user" }, ...lines));
}

export function drawPerson() {
  const box = byId("person");
  const title = byId("person-title");
  if (!session.user) {
    title.replaceChildren("Somebody new");
    box.replaceChildren(h("p", {}, "Nothing is known of them but what you choose here. Or take a user of the store."));
    return;
  }
  title.replaceChildren("User ", bdi(session.user));
  const back = h("button", { type: "button", class: "plain", onclick: () => change({ user: "", attributes: {}, forget: [] }) }, "Back to somebody new");
  if (!person || person.id !== session.user) box.replaceChildren(h("p", {}, "Reading the history…"), back);
  else if (person.problem) box.replaceChildren(h("p", { class: "problem" }, person.problem), back);
  else if (!person.events) box.replaceChildren(h("p", {}, "The store has no events of them yet: what you record will be the first."), back);
  else box.replaceChildren(stored(), back);
}

/** Writes events of the chosen user into the store; the recommendations after it know them. */
export async function record(items) {
  const user = session.user;
  const events = items.map((item) => ({ user, item, key: eventKey() }));
  if (events.length === 1) await call("POST", "v1/events", { body: events[0] });
  else await call("POST", "v1/events/batch", { body: { events } });
  announce(`Recorded ${plural(items.length, "event")} for user ${user}.`);
  change({ history: session.history.filter((id) => !items.includes(id)), user });
}

export function watchPerson() {
  const dialog = byId("people");
  byId("person-open").addEventListener("click", () => {
    pages = [null];
    dialog.showModal();
    byId("people-query").focus();
    search(0);
  });
  byId("people-close").addEventListener("click", () => dialog.close());
  byId("people-back").addEventListener("click", () => (pages.pop(), search(0)));
  byId("people-query").addEventListener("input", () => ((pages = [null]), search()));
  byId("people-form").addEventListener("submit", (event) => (event.preventDefault(), search(0)));
  byId("people-new").addEventListener("click", () => pick(byId("people-query").value.trim()));
}
