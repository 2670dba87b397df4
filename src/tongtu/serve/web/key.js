// The key: asked for when the service says 401, kept in this tab's session storage and nowhere else.

import { key, setKey } from "./api.js";
import { byId, h } from "./dom.js";

function build() {
  const field = h("input", { id: "key-field", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "tt_…" });
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "key-title" });
  const form = h(
    "form",
    { method: "dialog", onsubmit: () => setKey(field.value.trim()) },
    h("h2", { id: "key-title" }, "This service asks for a key"),
    h("p", { class: "quiet" }, "It stays in this tab and is forgotten when you close it. Whoever runs the service makes one with ", h("code", {}, "tongtu keys add"), "."),
    h("label", { for: "key-field" }, "Key"),
    field,
    h(
      "div",
      { class: "row end" },
      h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Not now"),
      h("button", { type: "button", class: "plain", id: "key-forget", onclick: () => (dialog.close(), setKey("")) }, "Forget the key"),
      h("button", { type: "submit", class: "main" }, "Use this key"),
    ),
  );
  dialog.append(form);
  document.body.append(dialog);
  return { dialog, field };
}

/** Wires the header's key button; the dialog opens by itself when a call is refused for want of a key. */
export function watchKey() {
  const { dialog, field } = build();
  const open = () => {
    if (dialog.open) return;
    field.value = "";
    byId("key-forget").hidden = !key();
    dialog.showModal();
    field.focus();
  };
  const button = byId("key-button");
  const tell = () => (button.textContent = key() ? "Key set" : "Key");
  button.addEventListener("click", open);
  document.addEventListener("tongtu-locked", open);
  document.addEventListener("tongtu-key", tell);
  tell();
}
