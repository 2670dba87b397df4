// The comparison that led to the choice: results.json of `tongtu compare`, as a short table.

import { call } from "./api.js";
import { range } from "./charts.js";
import { bdi, byId, duration, figure, h } from "./dom.js";

const METRIC = "ndcg@10";

const metric = (value) => (Number.isFinite(value) ? value.toFixed(4) : "–");

function row(system, high) {
  const value = system.metrics[METRIC];
  const interval = system.interval?.[METRIC];
  const place = interval ? range(value, interval, high) : null;
  const numbers = [system.metrics["recall@10"], system.metrics["coverage@10"]].map((number) => h("td", {}, metric(number)));
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, bdi(system.label), h("span", { class: "sub block" }, system.road)),
    h("td", { class: "value" }, metric(value), interval ? h("span", { class: "sub block" }, `${metric(interval[0])} – ${metric(interval[1])}`) : null),
    h("td", { class: "place" }, place),
    ...numbers,
    h("td", {}, duration(1000 * system.fit_seconds)),
    h("td", {}, duration(system.ms_per_request)),
  );
}

function table(results) {
  const done = results.systems.filter((system) => system.status === "done" && Number.isFinite(system.metrics?.[METRIC]));
  done.sort((a, b) => b.metrics[METRIC] - a.metrics[METRIC]);
  const high = Math.max(...done.map((system) => system.interval?.[METRIC]?.[1] ?? system.metrics[METRIC]));
  const heads = ["System", "NDCG@10", "95 % interval", "Recall@10", "Coverage@10", "Fit", "A request"];
  const head = h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "comparison-title" }, h("table", {}, head, h("tbody", {}, ...done.map((system) => row(system, high)))));
}

export async function loadComparison() {
  const box = byId("comparison");
  try {
    const results = await call("GET", "v1/report");
    const { data, protocol } = results;
    const counts = `${figure(data.users)} users, ${figure(data.items)} items, ${figure(data.events)} events`;
    box.replaceChildren(h("p", { class: "quiet" }, bdi(data.name), `: ${counts}; protocol `, bdi(protocol.name), "."), table(results));
  } catch (error) {
    box.replaceChildren(h("p", { class: "empty" }, error.message));
  }
}
