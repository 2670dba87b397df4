// Elements from values. Titles, ids and texts come from strangers: they enter as text nodes, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: `h("li", { class: "x", onclick: f }, "text", child)`; what is null or false is left out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element, made like `h`. */
export function s(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** A stranger's text, kept apart from the reading direction around it. */
export function bdi(text, properties = {}) {
  return h("bdi", properties, String(text));
}

/** What only a screen reader says. */
export function spoken(text) {
  return h("span", { class: "spoken" }, text);
}

export const byId = (id) => document.getElementById(id);

/** "a, b and c" of nodes or strings, as a list of nodes. */
export function sentence(parts) {
  return parts.flatMap((part, at) => (at === 0 ? [part] : [at === parts.length - 1 ? " and " : ", ", part]));
}

/** Figures that people read: three significant digits, and thousands apart. */
export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(3)).toString();
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms >= 1000 ? `${figure(ms / 1000)} s` : `${figure(ms)} ms`;
}

export function plural(count, word) {
  return `${figure(count)} ${word}${count === 1 ? "" : "s"}`;
}

let polite = null;

/** Says something to a screen reader, once the one before has been said. */
export function announce(text) {
  polite ??= document.body.appendChild(h("div", { class: "spoken", role: "status", "aria-live": "polite" }));
  polite.textContent = text;
}
