// One model's list. Lines are kept by item from answer to answer, so that the eye can follow what moves and the keyboard keeps its place.

import { Problem } from "./api.js";
import { bdi, byId, duration, h, plural } from "./dom.js";
import { Line } from "./line.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Column {
  constructor(name) {
    this.name = name;
    this.answer = null;
    this.lines = new Map();
    const id = `column-${name}`;
    this.status = h("p", { class: "status" });
    this.notes = h("div", { class: "notes" });
    this.list = h("ol", { class: "list", "aria-labelledby": id });
    this.root = h("section", { class: "card column", "aria-labelledby": id, data: { model: name } }, h("h3", { id }, bdi(name)), this.status, this.notes, this.list);
    this.status.textContent = "Asking…";
  }

  wait() {
    this.root.setAttribute("aria-busy", "true");
  }

  show(answer, milliseconds) {
    const before = this.answer ? new Map(this.answer.items.map((item, at) => [item.id, at])) : null;
    this.answer = answer;
    this.root.setAttribute("aria-busy", "false");
    this.tell(milliseconds);
    const places = this.places();
    const focused = this.focus();
    this.arrange(before);
    this.move(places);
    this.refocus(focused);
  }

  tell(milliseconds) {
    const { took_ms: took, version, history_length: length } = this.answer;
    const facts = [h("span", { class: "ms", title: "Until the answer was here" }, duration(Math.round(milliseconds))), h("span", {}, `${duration(took)} in the service`)];
    if (length !== undefined) facts.push(h("span", {}, `${plural(length, "event")} read`));
    facts.push(h("code", { title: "Version of the model that answered" }, version));
    this.status.replaceChildren(...facts);
    const { notes = {}, unknown = [], degraded, items } = this.answer;
    const note = ([name, text]) => h("p", { class: "note" }, `${name}: `, bdi(typeof text === "string" ? text : JSON.stringify(text)));
    const lines = Object.entries(notes).filter(([name]) => name !== "degraded").map(note);
    if (degraded) lines.unshift(h("p", { class: "note" }, "Degraded: ", bdi(degraded)));
    if (unknown.length) lines.push(h("p", { class: "note" }, `${plural(unknown.length, "item")} unknown to this model`));
    if (!items.length) lines.push(h("p", { class: "empty" }, "No item is left: loosen the filters."));
    this.notes.replaceChildren(...lines);
  }

  arrange(before) {
    const { items } = this.answer;
    const scores = items.map((item) => item.score);
    const kept = new Map();
    items.forEach((item, at) => {
      const line = this.lines.get(item.id) || new Line(item, this.name);
      line.place(at + 1, item.score, scores, before === null ? null : (before.get(item.id) ?? -1));
      kept.set(item.id, line);
    });
    for (const [id, line] of this.lines) if (!kept.has(id)) line.root.remove();
    this.lines = kept;
    [...kept.values()].forEach((line, at) => {
      if (this.list.children[at] !== line.root) this.list.insertBefore(line.root, this.list.children[at] || null);
    });
  }

  places() {
    return new Map([...this.lines].map(([id, line]) => [id, line.root.getBoundingClientRect().top]));
  }

  move(places) {
    if (calm.matches || !places.size) return;
    for (const [id, line] of this.lines) {
      const shift = places.has(id) ? places.get(id) - line.root.getBoundingClientRect().top : null;
      if (shift === null) line.root.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 220 });
      else if (Math.abs(shift) > 1) line.root.animate([{ transform: `translateY(${shift}px)` }, { transform: "none" }], { duration: 260, easing: "ease-out" });
    }
  }

  focus() {
    const at = [...this.list.children].findIndex((line) => line.contains(document.activeElement));
    return at < 0 ? null : { at, element: document.activeElement };
  }

  /** Moving an element takes the focus off it; a chosen item leaves the list, and the one in its place gets the focus. */
  refocus(focused) {
    if (!focused || document.activeElement === focused.element) return;
    const heir = focused.element.isConnected ? focused.element : this.list.children[Math.min(focused.at, this.list.childElementCount - 1)]?.querySelector("button");
    (heir || byId("results")).focus({ preventScroll: true });
  }

  fail(error) {
    this.answer = null;
    this.lines.clear();
    this.root.setAttribute("aria-busy", "false");
    this.list.replaceChildren();
    this.notes.replaceChildren();
    const problem = error instanceof Problem ? error : new Problem(0, { detail: String(error) });
    const again = h("button", { type: "button", onclick: () => this.root.dispatchEvent(new Event("again", { bubbles: true })) }, "Try again");
    const later = problem.retryAfter ? h("p", { class: "quiet" }, `It asks for ${problem.retryAfter} s of patience.`) : null;
    this.status.replaceChildren();
    this.notes.append(h("div", { class: "problem", role: "alert" }, h("p", {}, problem.message), later, again));
  }

  because(reasons) {
    for (const reason of reasons) this.lines.get(reason.item)?.because(reason);
  }

  unexplained(error) {
    this.notes.append(h("p", { class: "note" }, `No reasons: ${error.message}`));
  }

  share(elsewhere) {
    for (const [id, line] of this.lines) line.share(elsewhere(id));
  }
}
