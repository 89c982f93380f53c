// Keeps the page as the coordinator is: every event has it made anew by the server, and what differs is changed in place.
import { call } from "./api.js";
import { Charts } from "./charts.js";
import { watchAddress } from "./passes.js";
import { attach } from "./start.js";
import { showTimes } from "./times.js";

const LONGEST_MS = 10_000; // between two looks: "last seen" and the scorer's speed tell no event
const SHORTEST_MS = 1_000;

let charts = null;
let events = null;
let fetching = false;
let asked = false;

/** Whether a list says another thing than the page was made for. */
const differs = (list) => list.value !== (list.querySelector("[selected]")?.value ?? "");
const choosing = (node) => node.matches?.(".choose") && [...node.querySelectorAll("select")].some(differs);

const keep = {
  // Charts, a half filled form and a choice that is being made are this browser's own.
  beforeNodeMorphed: (old, fresh) =>
    !(old.id === "start" || choosing(old) || (old.id === "curves" && charts?.isOf(fresh))),
  // So is whether a list is open.
  beforeAttributeUpdated: (name) => name !== "open",
};

/** Says that the page is not up to date, and why; nothing where it is. */
function behind(why) {
  document.querySelector("#behind").textContent = why && `${why} What is shown is its last word.`;
}

async function refresh() {
  if (fetching || document.hidden) {
    asked = true;
    return;
  }
  fetching = true;
  asked = false;
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    // The session has ended, or the coordinator no longer has the training: a page of its own says so.
    if (reply?.status === 401 || reply?.status === 404) return location.reload();
    const html = reply?.ok ? await reply.text().catch(() => null) : null; // it may be cut off half way
    if (html !== null) await show(html);
    if (reply && !reply.ok) behind((await reply.json().catch(() => ({}))).detail ?? `It answers ${reply.status}.`);
    else behind(html === null ? "The coordinator does not answer." : "");
  } finally {
    setTimeout(() => {
      fetching = false;
      if (asked) refresh();
    }, SHORTEST_MS);
  }
}

async function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  document.title = fresh.title;
  const said = document.querySelector("#problem");
  fresh.querySelector("#problem").replaceWith(said.cloneNode(true));
  Idiomorph.morph(document.querySelector("main"), fresh.querySelector("main"), { callbacks: keep });
  await arrange();
}

/** Brings to life what the server's words cannot. */
async function arrange() {
  showTimes();
  for (const place of document.querySelectorAll("[data-address]")) place.textContent = location.origin;
  const form = document.querySelector("#start");
  if (form && !form.dataset.attached) {
    form.dataset.attached = "yes";
    attach(form);
  }
  const section = document.querySelector("#curves");
  if (section && !(charts?.section === section && charts.isOf(section))) {
    charts?.dispose();
    charts = new Charts(section);
  }
  if (section) await charts.update();
}

/** Listens for events. A browser connects again by itself, but not where it was answered with a refusal. */
function listen() {
  if (document.hidden) return; // a browser has few connections for all of its tabs
  events?.close();
  events = new EventSource("/events");
  events.addEventListener("round", refresh);
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) return;
    refresh(); // which sees whether the session has ended
    setTimeout(listen, LONGEST_MS * (0.5 + Math.random()));
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-call]");
  if (!button || (button.dataset.sure && !confirm(button.dataset.sure))) return;
  button.disabled = true;
  const done = await call(...button.dataset.call.split(" "));
  button.disabled = false;
  if (done && button.dataset.then === "reload") location.reload();
  else refresh();
});
let typed = false; // arrow keys change a closed list at every press: then it is sent by Enter, or by its button
document.addEventListener("pointerdown", () => (typed = false));
document.addEventListener("keydown", (event) => {
  typed = true;
  if (event.key === "Enter" && event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
document.addEventListener("change", (event) => {
  if (!typed && event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) events?.close();
  else listen();
  refresh();
});

for (const list of document.querySelectorAll("[data-submit]")) {
  if (differs(list)) list.form.requestSubmit(); // somebody was faster than this script
}
watchAddress(document.body.dataset.role === "viewer"); // an operator has no use for a pass
setInterval(showTimes, 1000);
setInterval(refresh, LONGEST_MS);
listen();
await arrange();
