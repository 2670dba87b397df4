// Who answers whoever names no model: shares that sum to 100 %, and a shadow that is asked beside it.

import { call } from "./api.js";
import { bdi, byId, figure, h } from "./dom.js";

let drawn = "";

function percent(value) {
  return Number((100 * value).toFixed(2));
}

function amount(id, share, properties = {}) {
  return h("input", { id, type: "number", min: 0, max: 100, step: "any", inputmode: "decimal", value: percent(share), ...properties });
}

function row(model) {
  const id = `share-${model.name}`;
  return h("div", { class: "share-row" }, h("label", { for: id }, bdi(model.name)), amount(id, model.share || 0, { data: { model: model.name } }), h("span", {}, "%"));
}

function shares() {
  return Object.fromEntries([...byId("split").querySelectorAll("input[data-model]")].map((input) => [input.dataset.model, (input.valueAsNumber || 0) / 100]));
}

function sum() {
  const all = Object.values(shares()).reduce((total, value) => total + value, 0);
  byId("split-sum").textContent = `${figure(percent(all))} % in all${Math.abs(all - 1) > 1e-6 ? ": must be 100" : ""}`;
}

/** Draws the form anew when the split changed elsewhere, and never under the hands of somebody who is filling it in. */
export function drawSplit(models) {
  const now = JSON.stringify(models.map(({ name, share, shadow }) => [name, share, shadow]));
  const form = byId("split");
  if (now === drawn || form.contains(document.activeElement)) return;
  drawn = now;
  const shadow = models.find((model) => model.shadow > 0);
  const choice = h("select", { id: "shadow-model" }, h("option", { value: "" }, "none"), ...models.map((model) => h("option", { value: model.name, selected: model === shadow }, model.name)));
  form.replaceChildren(
    ...models.map(row),
    h("p", { class: "quiet", id: "split-sum", "aria-live": "polite" }),
    h("div", { class: "share-row" }, h("label", { for: "shadow-model" }, "Shadow"), choice),
    h("div", { class: "share-row" }, h("label", { for: "shadow-share" }, "Its share"), amount("shadow-share", shadow?.shadow ?? 0.1), h("span", {}, "%")),
    h("div", { class: "row end" }, h("button", { type: "submit", class: "main" }, "Set")),
  );
  sum();
}

async function set(event) {
  event.preventDefault();
  const split = Object.fromEntries(Object.entries(shares()).filter(([, share]) => share > 0));
  const model = byId("shadow-model").value;
  const shadow = model ? { model, share: (byId("shadow-share").valueAsNumber || 0) / 100 } : null;
  try {
    await call("PUT", "v1/traffic", { body: { split, shadow } });
    byId("split-note").replaceChildren(h("p", { class: "good" }, "Set: it holds from the next request on."));
    drawn = "";
    document.activeElement?.blur();
    document.dispatchEvent(new Event("tongtu-models"));
  } catch (error) {
    byId("split-note").replaceChildren(h("p", { class: "problem" }, error.message));
  }
}

export function watchSplit() {
  byId("split").addEventListener("submit", set);
  byId("split").addEventListener("input", sum);
}
