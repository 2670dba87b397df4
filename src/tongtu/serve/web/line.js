// One recommended item: its place and how that changed, its score, why it is here, where else it is, and what can be done with it.

import { call, segment } from "./api.js";
import { subtitle } from "./catalogue.js";
import { bdi, figure, h, s, sentence, spoken } from "./dom.js";
import { record } from "./person.js";
import { choose, learnTitles, session, titleOf } from "./session.js";
import { able, served } from "./settings.js";

const ALIKE = 5;
const WHY = 2;

function bar(score, scores) {
  const low = Math.min(0, ...scores);
  const high = Math.max(...scores);
  const share = high > low ? Math.max(0.02, (score - low) / (high - low)) : 1;
  const part = (kind, width) => s("rect", { class: kind, width, height: 4, rx: 2 });
  return s("svg", { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, part("rail", 100), part("fill", 100 * share));
}

export class Line {
  constructor(item, model) {
    this.item = item;
    this.model = model;
    this.rank = h("span", { class: "rank" });
    this.moved = h("span", { class: "moved" });
    this.score = h("span", { class: "score" });
    this.why = h("p", { class: "why" });
    this.also = h("span", { class: "also" });
    this.alike = h("div", { class: "alike" });
    this.buttons = h("div", { class: "buttons" }, ...this.actions());
    const head = h("div", { class: "head" }, bdi(item.title || item.id, { class: "title" }), this.score);
    const body = h("div", { class: "body" }, head, bdi(subtitle(item), { class: "sub" }), this.why, h("div", { class: "doing" }, this.buttons, this.also), this.alike);
    this.root = h("li", { data: { id: item.id } }, h("div", { class: "at" }, this.rank, this.moved), body);
  }

  action(text, run, properties = {}) {
    return h("button", { type: "button", class: "small", onclick: run, ...properties }, text, bdi(` ${this.item.title || this.item.id}`, { class: "spoken" }));
  }

  actions() {
    const buttons = [this.action("Add", () => choose(this.item), { "data-action": "add" })];
    if (this.teller()) buttons.push(this.action("Similar", () => this.toggle(), { "data-action": "similar", "aria-expanded": "false" }));
    this.recording = this.action("Record", () => this.record(), { "data-action": "record", title: "Write this event into the store" });
    buttons.push(this.recording);
    return buttons;
  }

  /** The model that knows what is similar: the list's own, or else any that does. */
  teller() {
    return [this.model, ...served.map((model) => model.name)].find((name) => able(name, "similar"));
  }

  place(rank, score, scores, before) {
    this.rank.textContent = String(rank);
    this.recording.hidden = !session.user;
    this.score.replaceChildren(h("span", { class: "number" }, spoken("score "), figure(score)), bar(score, scores));
    const shift = before === null ? 0 : before < 0 ? null : before + 1 - rank;
    this.moved.className = shift === null ? "moved new" : shift > 0 ? "moved up" : shift < 0 ? "moved down" : "moved";
    if (shift === null) this.moved.replaceChildren("new");
    else if (shift === 0) this.moved.replaceChildren();
    else this.moved.replaceChildren(h("span", { "aria-hidden": "true" }, `${shift > 0 ? "▲" : "▼"}${Math.abs(shift)}`), spoken(`${shift > 0 ? "up" : "down"} ${Math.abs(shift)}`));
    this.why.replaceChildren();
  }

  because(reason) {
    const causes = (reason.because || []).filter((cause) => cause.weight > 0);
    learnTitles(reason.because || []);
    const names = causes.slice(0, WHY).map((cause) => bdi(titleOf(cause.id), { title: `changes the score by ${figure(cause.weight)}` }));
    this.why.replaceChildren(...(names.length ? ["because of ", ...sentence(names)] : []), reason.text ? bdi(` ${reason.text}`) : "");
  }

  share(others) {
    this.also.replaceChildren(...others.map(([name, rank]) => h("span", { class: "tag", title: `No. ${rank} of ${name}` }, spoken("also in "), bdi(name), spoken(" at "), ` ${rank}`)));
    this.root.classList.toggle("shared", others.length > 0);
  }

  async record() {
    this.recording.disabled = true;
    try {
      await record([this.item.id]);
    } catch (error) {
      this.alike.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      this.recording.disabled = false;
    }
  }

  async toggle() {
    const button = this.buttons.querySelector("[data-action=similar]");
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) return this.alike.replaceChildren();
    this.alike.replaceChildren(h("p", { class: "quiet" }, "Looking…"));
    try {
      const { items } = await call("GET", `v1/items/${segment(this.item.id)}/similar`, { query: { k: ALIKE, model: this.teller() } });
      learnTitles(items);
      const sign = () => h("span", { class: "sign", "aria-hidden": "true" }, "+");
      const pick = (item) =>
        h("button", { type: "button", class: "pick", onclick: () => choose(item) }, sign(), bdi(item.title || item.id, { class: "title" }), spoken(", add to the history"));
      const list = h("ul", { class: "catalogue", "aria-label": `Similar to ${this.item.title || this.item.id}` }, ...items.map((item) => h("li", {}, pick(item))));
      this.alike.replaceChildren(items.length ? list : h("p", { class: "quiet" }, "Nothing like it."));
    } catch (error) {
      this.alike.replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    }
  }
}
