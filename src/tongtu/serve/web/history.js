// What was chosen on this page, newest first; each can be taken back, and all can be recorded for a user.

import { bdi, byId, h, plural, spoken } from "./dom.js";
import { record } from "./person.js";
import { change, session, titleOf } from "./session.js";

function without(id) {
  const list = byId("history");
  const place = [...list.children].findIndex((line) => line.dataset.id === id);
  change({ history: session.history.filter((other) => other !== id) });
  const next = list.children[Math.min(place, list.childElementCount - 1)];
  (next?.querySelector("button") || byId("catalogue-query")).focus();
}

export function drawHistory() {
  const newestFirst = [...session.history].reverse();
  const line = (id) =>
    h(
      "li",
      { data: { id } },
      bdi(titleOf(id), { class: "title" }),
      h("button", { type: "button", class: "icon", onclick: () => without(id) }, h("span", { "aria-hidden": "true" }, "✕"), spoken("Take back "), bdi(titleOf(id), { class: "spoken" })),
    );
  byId("history").replaceChildren(...newestFirst.map(line));
  byId("history-count").textContent = String(newestFirst.length);
  byId("history-empty").hidden = newestFirst.length > 0;
  byId("history-clear").hidden = newestFirst.length === 0;
  const button = byId("history-record");
  button.hidden = !session.user || newestFirst.length === 0;
  button.replaceChildren(`Record ${plural(newestFirst.length, "event")} for user `, bdi(session.user));
}

export function watchHistory(fail) {
  byId("history-clear").addEventListener("click", () => {
    change({ history: [] });
    byId("catalogue-query").focus();
  });
  byId("history-record").addEventListener("click", () => record(session.history).catch(fail));
}
