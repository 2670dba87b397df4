// The models that are served: put one in, swap it, roll it back, take it out.

import { call, segment } from "./api.js";
import { bdi, byId, figure, h } from "./dom.js";

let drawn = "";

function note(kind, ...words) {
  byId("models-note").replaceChildren(h("p", { class: kind }, ...words));
}

async function act(button, doing, work) {
  button.disabled = true;
  note("quiet", doing);
  try {
    note("good", ...(await work()));
  } catch (error) {
    note("problem", error.message);
  } finally {
    button.disabled = false;
    drawn = "";
    document.dispatchEvent(new Event("tongtu-models"));
  }
}

function rollback(model, button) {
  act(button, `Rolling ${model.name} back…`, async () => {
    const now = await call("POST", `v1/models/${segment(model.name)}/rollback`);
    return [bdi(model.name), " answers with version ", h("code", {}, now.version), " again."];
  });
}

async function remove(model, button) {
  const dialog = byId("sure");
  byId("sure-text").replaceChildren(bdi(model.name), " answers nobody any more. Its folder stays where it is.");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  act(button, `Taking ${model.name} out…`, async () => {
    await call("DELETE", `v1/models/${segment(model.name)}`);
    return [bdi(model.name), " is no longer served."];
  });
}

function install(event) {
  event.preventDefault();
  const name = byId("install-name").value.trim();
  const path = byId("install-path").value.trim();
  act(event.submitter || byId("install").querySelector("button"), `Opening ${path}; what is served goes on answering…`, async () => {
    const now = await call("POST", `v1/models/${segment(name)}`, { body: { path } });
    byId("install-path").value = "";
    return [bdi(name), " answers with version ", h("code", {}, now.version), "."];
  });
}

function since(seconds) {
  return seconds ? new Date(seconds * 1000).toLocaleString() : "–";
}

function card(model, alone) {
  const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, ...value)];
  const swap = h("button", { type: "button", onclick: () => ((byId("install-name").value = model.name), byId("install-path").focus()) }, "Swap…");
  const back = h("button", { type: "button", data: { act: "rollback" }, disabled: !model.previous, onclick: (event) => rollback(model, event.target) }, "Roll back");
  const out = h("button", { type: "button", class: "plain", data: { act: "remove" }, disabled: alone, onclick: (event) => remove(model, event.target) }, "Take out…");
  const title = `model-${model.name}`;
  return h(
    "article",
    { class: "model", "aria-labelledby": title, data: { model: model.name } },
    h("h3", { id: title }, bdi(model.name), h("span", { class: "sub" }, ` ${model.system}`)),
    h(
      "dl",
      {},
      ...fact("Version", h("code", {}, model.version)),
      ...fact("Before it", model.previous ? h("code", {}, model.previous) : "none"),
      ...fact("Folder", bdi(model.path ?? "–")),
      ...fact("Since", since(model.loaded_at)),
      ...fact("Items", figure(model.items)),
      ...fact("Can", (model.can || []).join(", ") || "recommend"),
      ...fact("Traffic", `${figure(100 * (model.share || 0))} %${model.shadow ? `, shadow of ${figure(100 * model.shadow)} %` : ""}`),
    ),
    h("div", { class: "row" }, swap, back, out),
  );
}

/** Draws the models anew when something about them changed, so that the keyboard keeps its place. */
export function drawModels(models) {
  const now = JSON.stringify(models);
  if (now === drawn) return;
  drawn = now;
  byId("models").replaceChildren(...models.map((model) => card(model, models.length === 1)));
}

export function watchModels() {
  byId("install").addEventListener("submit", install);
}
