// The playground: puts the parts together and starts them.

import { call } from "./api.js";
import { drawAttributes, watchAttributes } from "./attributes.js";
import { learnMissing, markChosen, startCatalogue, watchCatalogue } from "./catalogue.js";
import { drawChat, watchChat } from "./chat.js";
import { announce, byId, h } from "./dom.js";
import { drawHistory, watchHistory } from "./history.js";
import { watchKey } from "./key.js";
import { drawPerson, loadPerson, watchPerson } from "./person.js";
import { watchResults } from "./results.js";
import { change, onChange, restore, session } from "./session.js";
import { drawSettings, learnServed, watchSettings } from "./settings.js";
import { drawSnippet, watchSnippet } from "./snippet.js";

const WAIT = 1000; // milliseconds between two looks at a service that is starting

function fail(error) {
  announce(error.message);
  byId("overlap").replaceChildren(h("p", { class: "problem", role: "alert" }, error.message));
}

function draw() {
  drawHistory();
  markChosen();
  drawPerson();
  drawAttributes();
  drawSettings();
  drawChat();
  drawSnippet();
}

async function changed(patch) {
  draw();
  if (!("user" in patch)) return;
  await loadPerson();
  draw();
}

/** Waits until the service takes questions; it is open before its models are. */
async function ready() {
  for (;;) {
    try {
      await call("GET", "health/ready");
      return byId("overlap").replaceChildren();
    } catch (error) {
      if (error.status !== 503) throw error;
      byId("overlap").replaceChildren(h("p", { class: "quiet" }, `Not ready yet: ${error.reasons.join(", ")}. This page goes on by itself.`));
      await new Promise((resolve) => setTimeout(resolve, WAIT));
    }
  }
}

async function start() {
  try {
    await ready();
    startCatalogue().then(draw);
    const { models } = await call("GET", "v1/models");
    if (!models.length) return fail(new Error("No model is being served: start one with `tongtu serve MODEL`."));
    change({ models: learnServed(models) });
  } catch (error) {
    if (error.status !== 401) fail(error);
    return;
  }
  await Promise.all([loadPerson(), learnMissing(session.history)]);
  draw();
}

restore();
watchKey();
watchCatalogue();
watchPerson();
watchHistory(fail);
watchAttributes();
watchSettings();
watchResults();
watchChat();
watchSnippet();
onChange(changed);
document.addEventListener("tongtu-key", start);
addEventListener("hashchange", () => {
  restore();
  start();
});
// The address holds the question, so links within the page move the focus and leave the address alone.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#']");
  if (!link) return;
  event.preventDefault();
  const target = byId(link.getAttribute("href").slice(1));
  target.scrollIntoView();
  target.focus({ preventScroll: true });
});
start();
