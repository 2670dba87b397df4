// The rest of the question: which models, in which words, how many, how unlike each other, and with which filters.

import { bdi, byId, h, sentence } from "./dom.js";
import { facets } from "./catalogue.js";
import { change, session } from "./session.js";

export const MOST_MODELS = 3;

/** The models being served, as /v1/models tells. */
export let served = [];

export function learnServed(models) {
  served = models;
  const names = served.map((model) => model.name);
  const kept = session.models.filter((name) => names.includes(name));
  if (kept.length) return kept;
  const asked = served.filter((model) => !model.language_model && !model.shadow);
  return (asked.length ? asked : served).slice(0, 2).map((model) => model.name);
}

export function able(name, what) {
  return served.find((model) => model.name === name)?.can?.includes(what) ?? false;
}

function toggle(name) {
  const on = session.models.includes(name);
  const models = on ? session.models.filter((other) => other !== name) : [...session.models, name];
  if (models.length && models.length <= MOST_MODELS) change({ models });
}

export function drawModels() {
  const full = session.models.length >= MOST_MODELS;
  const box = byId("models");
  const focused = box.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  const chip = (model) => {
    const on = session.models.includes(model.name);
    const off = !on && full;
    const properties = { type: "button", class: "chip", "aria-pressed": String(on), disabled: off, data: { name: model.name }, onclick: () => toggle(model.name) };
    return h("button", properties, bdi(model.name), model.system && model.system !== model.name ? h("span", { class: "sub" }, ` ${model.system}`) : null);
  };
  box.replaceChildren(...served.map(chip));
  if (focused) [...box.children].find((one) => one.dataset.name === focused)?.focus();
}

function drawWish() {
  const deaf = session.models.filter((name) => !able(name, "wish"));
  const note = byId("wish-note");
  note.hidden = !session.wish.trim() || deaf.length === 0;
  note.replaceChildren(...sentence(deaf.map((name) => bdi(name))), deaf.length === 1 ? " cannot hear wishes and answers without it." : " cannot hear wishes and answer without it.");
}

function group(field, values) {
  const chosen = session.filters[field] || [];
  const put = (value, on) => change({ filters: { ...session.filters, [field]: on ? [...chosen, value] : chosen.filter((other) => other !== value) } });
  const box = (value) =>
    h("label", { class: "tick" }, h("input", { type: "checkbox", checked: chosen.includes(value), data: { field, value }, onchange: (event) => put(value, event.target.checked) }), " ", bdi(value));
  return h("fieldset", {}, h("legend", {}, "Only these: ", bdi(field.replaceAll("_", " "))), h("div", { class: "ticks" }, ...values.map(box)));
}

export function drawFilters() {
  const box = byId("filters");
  const place = box.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
  const fields = new Map(facets);
  for (const [field, values] of Object.entries(session.filters)) fields.set(field, [...new Set([...(fields.get(field) || []), ...values])]);
  byId("filters-panel").hidden = fields.size === 0;
  box.replaceChildren(...[...fields].map(([field, values]) => group(field, values)));
  if (place) [...box.querySelectorAll("input")].find((one) => one.dataset.field === place.field && one.dataset.value === place.value)?.focus();
  const count = Object.values(session.filters).flat().length;
  byId("filters-count").textContent = String(count);
  byId("filters-count").hidden = count === 0;
}

export function drawSettings() {
  drawModels();
  drawWish();
  drawFilters();
  if (document.activeElement !== byId("wish")) byId("wish").value = session.wish;
  if (document.activeElement !== byId("k")) byId("k").value = session.k;
  byId("diversity").value = session.diversity;
  byId("diversity-value").textContent = session.diversity > 0 ? session.diversity.toFixed(1) : "off";
  byId("reasons").checked = session.reasons;
}

export function watchSettings() {
  byId("wish").addEventListener("input", (event) => change({ wish: event.target.value }));
  byId("diversity").addEventListener("input", (event) => change({ diversity: Number(event.target.value) }));
  byId("reasons").addEventListener("change", (event) => change({ reasons: event.target.checked }));
  byId("k").addEventListener("input", (event) => {
    const k = event.target.valueAsNumber;
    if (k >= 1 && k <= 50) change({ k: Math.round(k) });
  });
  byId("k").addEventListener("change", (event) => (event.target.value = session.k));
}
