// Small charts in SVG, drawn in the pixels they get, with a sentence for those who do not see them.

import { figure, h, s } from "./dom.js";

const HEIGHT = 170;
const EDGE = { left: 44, right: 10, top: 12, bottom: 22 };

/** The smallest of 1, 2, 5, 10, 20, ... that is not below `value`. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * (1 - 1e-9));
}

function frame(box, high, summary, from, to) {
  const width = Math.max(240, box.clientWidth || 400);
  const inner = { width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top - EDGE.bottom };
  const y = (value) => EDGE.top + inner.height * (1 - value / high);
  const x = (share) => EDGE.left + inner.width * share;
  const picture = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width: "100%", height: HEIGHT, role: "img", "aria-label": summary });
  for (const share of [0, 0.5, 1]) {
    picture.append(s("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(share * high), y2: y(share * high) }));
    picture.append(s("text", { x: EDGE.left - 7, y: y(share * high) + 4, "text-anchor": "end" }, figure(share * high)));
  }
  picture.append(s("text", { x: EDGE.left, y: HEIGHT - 5 }, from), s("text", { x: width - EDGE.right, y: HEIGHT - 5, "text-anchor": "end" }, to));
  return { picture, x, y };
}

/** Bars from left to right, the newest last. */
export function bars(box, values, { from, to, summary }) {
  const { picture, x, y } = frame(box, ceiling(Math.max(0, ...values)), summary, from, to);
  const step = 1 / Math.max(1, values.length);
  values.forEach((value, at) => {
    if (value > 0) picture.append(s("rect", { class: "bar", x: x((at + 0.12) * step), width: x(0.76 * step) - x(0), y: y(value), height: y(0) - y(value), rx: 1.5 }));
  });
  box.replaceChildren(picture);
}

function path(values, x, y, most) {
  let line = "";
  let pen = "M";
  values.forEach((value, at) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    line += `${pen}${x(most > 1 ? at / (most - 1) : 1).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return line;
}

/** Lines over the same times; the legend's strokes tell them apart without colour. */
export function lines(box, series, { from, to, summary }) {
  const high = ceiling(Math.max(0, ...series.flatMap(({ values }) => values.filter((value) => value !== null && value !== undefined))));
  const { picture, x, y } = frame(box, high, summary, from, to);
  const most = Math.max(2, ...series.map(({ values }) => values.length));
  series.forEach(({ values }, at) => picture.append(s("path", { class: `line tone${at}`, d: path(values, x, y, most) })));
  const key = series.map(({ name, values }, at) => {
    const stroke = s("svg", { viewBox: "0 0 26 8", width: 26, height: 8, "aria-hidden": "true" }, s("path", { class: `line tone${at}`, d: "M1 4L25 4" }));
    return h("li", {}, stroke, ` ${name} `, h("strong", {}, figure(values.at(-1) ?? null)));
  });
  box.replaceChildren(picture, h("ul", { class: "legend" }, ...key));
}

/** A share from 0 to 1 as a bar; say the number beside it. */
export function share(value, tone = 0) {
  const filled = Math.max(0, Math.min(1, value)) * 100;
  return s(
    "svg",
    { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "rail", width: 100, height: 6 }),
    s("rect", { class: `fill${tone}`, width: filled, height: 6 }),
  );
}

/** Where a value and its interval lie between 0 and `high`. */
export function range(value, [low, up], high) {
  const x = (number) => 4 + 92 * (number / high);
  return s(
    "svg",
    { class: "range", viewBox: "0 0 100 12", "aria-hidden": "true" },
    s("line", { class: "rail", x1: 4, x2: 96, y1: 6, y2: 6 }),
    s("line", { class: "interval", x1: x(low), x2: x(up), y1: 6, y2: 6 }),
    s("circle", { cx: x(value), cy: 6, r: 3.5 }),
  );
}
