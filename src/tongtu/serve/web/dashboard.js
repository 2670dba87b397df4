// The dashboard: reads the figures every two seconds while it is looked at, and shows how they move.

import { call } from "./api.js";
import { bars, lines, share } from "./charts.js";
import { loadComparison } from "./comparison.js";
import { bdi, byId, duration, figure, h, plural } from "./dom.js";
import { watchKey } from "./key.js";
import { drawModels, watchModels } from "./models.js";
import { drawSplit, watchSplit } from "./split.js";

const EVERY = 2000;
const KEPT = 150; // samples: five minutes
const AWAY = new Set([429, 503]);

const samples = [];
let paused = false;
let timer = 0;

function uptime(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.round(seconds)} s`;
  if (minutes < 120) return `${minutes} min`;
  return minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${Math.floor(minutes / 1440)} days`;
}

function total(stats, wanted = () => true) {
  return stats.requests.filter(({ status }) => wanted(status)).reduce((sum, { count }) => sum + count, 0);
}

/** The route whose latency is worth a chart: that of recommendations, or the busiest. */
function mainRoute(stats) {
  const routes = Object.keys(stats.latency_ms);
  const count = (route) => stats.requests.filter((row) => row.route === route).reduce((sum, row) => sum + row.count, 0);
  return routes.find((route) => /recommend$/.test(route)) || routes.sort((a, b) => count(b) - count(a))[0];
}

function sample(stats) {
  const now = { at: performance.now(), all: total(stats), latency: stats.latency_ms[mainRoute(stats)] || null, rate: null };
  const last = samples.at(-1);
  // After a restart the counts begin again: that pair of samples says nothing.
  if (last && now.all >= last.all) now.rate = (1000 * (now.all - last.all)) / (now.at - last.at);
  samples.push(now);
  if (samples.length > KEPT) samples.shift();
}

function pools(stats) {
  return Object.entries(stats.engine || {}).filter(([, pool]) => pool !== null && typeof pool === "object" && "workers" in pool);
}

function tiles(stats) {
  const now = samples.at(-1);
  const tile = (name, value, detail) => h("div", { class: "card tile" }, h("dt", {}, name), h("dd", {}, value, detail ? h("span", { class: "sub" }, detail) : null));
  const minutes = stats.events_per_minute || [];
  const answered = total(stats);
  const failed = total(stats, (status) => status >= 500 && !AWAY.has(status));
  const away = total(stats, (status) => AWAY.has(status));
  const found = [
    tile("Requests a second", figure(now.rate), `${plural(answered, "answer")} in all`),
    tile("Latency, p50", duration(now.latency?.p50), `p99 ${duration(now.latency?.p99)}`),
    tile("Events this minute", figure(minutes.at(-1) ?? 0), `${figure(minutes.reduce((sum, n) => sum + n, 0))} in the hour`),
    tile("Server errors", figure(failed), `${figure(away)} sent away when busy`),
    tile("In the store", plural(stats.store?.events ?? 0, "event"), `${plural(stats.store?.users ?? 0, "user")}, ${plural(stats.store?.items ?? 0, "item")}`),
  ];
  for (const [name, pool] of pools(stats)) {
    if (!pool.alive && !pool.restarts) continue; // started at the first need
    const detail = `${plural(pool.working ?? 0, "worker")} busy, ${figure(pool.waiting ?? 0)} waiting, ${plural(pool.restarts ?? 0, "restart")}`;
    found.push(tile(`Workers, ${name}`, `${pool.alive} of ${pool.workers}`, detail));
  }
  byId("tiles").replaceChildren(...found);
}

function drawCharts(stats) {
  const minutes = stats.events_per_minute || [];
  const hour = minutes.reduce((sum, n) => sum + n, 0);
  const summary = `${figure(hour)} events in the last hour, at most ${figure(Math.max(0, ...minutes))} a minute, ${figure(minutes.at(-1) ?? 0)} in this one.`;
  bars(byId("chart-events"), minutes, { from: `${minutes.length} min ago`, to: "now", summary });
  const age = samples.length > 1 ? `${uptime((samples.at(-1).at - samples[0].at) / 1000)} ago` : "";
  const rates = samples.map(({ rate }) => rate);
  lines(byId("chart-requests"), [{ name: "a second", values: rates }], { from: age, to: "now", summary: `${figure(rates.at(-1))} requests a second now.` });
  const of = (name) => samples.map(({ latency }) => latency?.[name] ?? null);
  byId("latency-route").textContent = mainRoute(stats) || "recommendations";
  const latest = samples.at(-1).latency;
  const said = latest ? `Half of the answers come within ${duration(latest.p50)}, 99 of 100 within ${duration(latest.p99)}.` : "No answers yet.";
  lines(byId("chart-latency"), ["p50", "p90", "p99"].map((name) => ({ name: `${name}, ms`, values: of(name) })), { from: age, to: "now", summary: said });
}

function drawRoutes(stats) {
  const routes = [...new Set(stats.requests.map(({ route }) => route))];
  const count = (route, wanted) => stats.requests.filter((row) => row.route === route && wanted(row.status)).reduce((sum, row) => sum + row.count, 0);
  const most = Math.max(1, ...routes.map((route) => count(route, () => true)));
  const row = (route) => {
    const all = count(route, () => true);
    const numbers = [
      all,
      count(route, (status) => status < 400),
      count(route, (status) => status >= 400 && status < 500 && !AWAY.has(status)),
      count(route, (status) => AWAY.has(status)),
      count(route, (status) => status >= 500 && !AWAY.has(status)),
    ];
    const latency = stats.latency_ms[route] || {};
    const counts = numbers.map((n) => h("td", { class: n ? null : "zero" }, figure(n)));
    const times = ["p50", "p90", "p99"].map((name) => h("td", {}, duration(latency[name])));
    return h("tr", {}, h("th", { scope: "row" }, bdi(route), share(all / most)), ...counts, ...times);
  };
  const heads = ["Route", "Requests", "Answered", "Refused (4xx)", "Busy (429, 503)", "Failed (5xx)", "p50", "p90", "p99"];
  const sorted = routes.sort((a, b) => count(b, () => true) - count(a, () => true));
  byId("routes").replaceChildren(h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, ...sorted.map(row)));
}

function drawShadow(stats) {
  const pairs = Object.entries(stats.shadow_overlap || {});
  const line = ([pair, { mean, count }]) => {
    const told = h("p", {}, bdi(pair.replace(" | ", " and ")), h("strong", {}, figure(mean)));
    return h("div", { class: "overlap" }, told, share(mean, 1), h("p", { class: "sub" }, `over ${plural(count, "question")}`));
  };
  byId("shadow").replaceChildren(...(pairs.length ? pairs.map(line) : [h("p", { class: "empty" }, "No shadow has been asked yet.")]));
}

async function tick() {
  clearTimeout(timer);
  try {
    const [stats, { models }] = await Promise.all([call("GET", "v1/stats"), call("GET", "v1/models")]);
    // Probes and scrapes come by the clock: they are no traffic.
    stats.requests = stats.requests.filter(({ route }) => route.startsWith("/v1/"));
    sample(stats);
    byId("trouble").replaceChildren();
    byId("state").textContent = `Up for ${uptime(stats.uptime_seconds)}, ${plural(models.length, "model")} served.`;
    tiles(stats);
    drawCharts(stats);
    drawRoutes(stats);
    drawShadow(stats);
    drawModels(models);
    drawSplit(models);
  } catch (error) {
    byId("state").textContent = samples.length ? "The figures below are old." : "No figures.";
    byId("trouble").replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
    if (error.status === 401 || error.status === 403) return; // until another key is set
  }
  next();
}

function next() {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(tick, EVERY);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
  if (paused) clearTimeout(timer);
  else tick();
});
document.addEventListener("visibilitychange", () => !document.hidden && !paused && tick());
document.addEventListener("tongtu-key", () => (tick(), loadComparison()));
document.addEventListener("tongtu-models", tick);
watchKey();
watchModels();
watchSplit();
tick();
loadComparison();
