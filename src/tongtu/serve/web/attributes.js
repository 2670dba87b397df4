// Attributes of the person: those of the store, changed or left out, and those added here.

import { bdi, byId, h, plural, spoken } from "./dom.js";
import { known, person } from "./person.js";
import { change, session } from "./session.js";

function stored() {
  return session.user && person?.id === session.user ? person.attributes || {} : {};
}

function without(attributes, name) {
  return Object.fromEntries(Object.entries(attributes).filter(([other]) => other !== name));
}

function put(name, value) {
  const same = stored()[name] !== undefined && String(stored()[name]) === value;
  change({ attributes: same ? without(session.attributes, name) : { ...session.attributes, [name]: value } });
}

function leaveOut(name, on) {
  change({ forget: on ? [...session.forget, name] : session.forget.filter((other) => other !== name) });
}

function row(name, value) {
  const out = session.forget.includes(name);
  const own = !(name in stored());
  const id = `attribute-${name}`;
  const field = h("input", { id, value, disabled: out, autocomplete: "off", maxlength: "200", data: { name }, onchange: (event) => put(name, event.target.value.trim()) });
  const remove = h(
    "button",
    { type: "button", class: "icon", onclick: () => change({ attributes: without(session.attributes, name), forget: session.forget.filter((other) => other !== name) }) },
    h("span", { "aria-hidden": "true" }, "✕"),
    spoken("Remove "),
    bdi(name, { class: "spoken" }),
  );
  return h(
    "div",
    { class: out ? "attribute out" : "attribute" },
    h("label", { for: id }, bdi(name)),
    field,
    h("label", { class: "check" }, h("input", { type: "checkbox", checked: out, data: { forget: name }, onchange: (event) => leaveOut(name, event.target.checked) }), " Leave out"),
    own ? remove : null,
  );
}

export function drawAttributes() {
  const box = byId("attributes");
  const place = box.contains(document.activeElement) ? { ...document.activeElement.dataset } : null;
  const all = { ...stored(), ...Object.fromEntries(session.forget.map((name) => [name, stored()[name] ?? ""])), ...session.attributes };
  box.replaceChildren(...Object.entries(all).map(([name, value]) => row(name, String(value))));
  if (place) [...box.querySelectorAll("input")].find((one) => one.dataset.name === place.name && one.dataset.forget === place.forget)?.focus();
  const count = Object.keys(session.attributes).length + session.forget.length;
  byId("attributes-count").textContent = plural(count, "change");
  byId("attributes-count").hidden = count === 0;
  byId("attribute-names").replaceChildren(...[...known.keys()].filter((name) => !(name in all)).map((value) => h("option", { value })));
}

export function watchAttributes() {
  const name = byId("attribute-name");
  const value = byId("attribute-value");
  name.addEventListener("input", () => {
    byId("attribute-values").replaceChildren(...[...(known.get(name.value) || [])].map((one) => h("option", { value: one })));
  });
  byId("attribute-form").addEventListener("submit", (event) => {
    event.preventDefault();
    put(name.value.trim(), value.value.trim());
    name.value = value.value = "";
    name.focus();
  });
}
