// Keeps the page as the coordinator is: every event has it made anew by the server, and what differs is changed in place.
import { call, tell } from "./api.js";
import { Charts } from "./charts.js";
import { attach } from "./start.js";
import { showTimes } from "./times.js";

const LONGEST_MS = 10_000; // between two looks: "last seen" and the scorer's speed tell no event
const SHORTEST_MS = 500;

let charts = null;
let fetching = false;
let asked = false;

const keep = {
  // Charts and a half filled form are this browser's own.
  beforeNodeMorphed: (old, fresh) => !(old.id === "start" || (old.id === "curves" && charts?.isOf(fresh))),
  // So is whether a list is open.
  beforeAttributeUpdated: (name) => name !== "open",
};

async function refresh() {
  if (fetching) {
    asked = true;
    return;
  }
  fetching = true;
  asked = false;
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (reply.ok) await show(await reply.text());
  } catch {
    // The stream of events is reconnected by the browser, and then tells of a change.
  }
  await new Promise((done) => setTimeout(done, SHORTEST_MS));
  fetching = false;
  if (asked) refresh();
}

async function show(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  if (!fresh.querySelector("#clients")) return location.reload(); // the session has ended
  document.title = fresh.title;
  const said = document.querySelector("#problem");
  fresh.querySelector("#problem").replaceWith(said.cloneNode(true));
  Idiomorph.morph(document.querySelector("main"), fresh.querySelector("main"), { callbacks: keep });
  await arrange();
}

/** Brings to life what the server's words cannot. */
async function arrange() {
  showTimes();
  const form = document.querySelector("#start");
  if (form && !form.dataset.attached) {
    form.dataset.attached = "yes";
    attach(form);
  }
  const section = document.querySelector("#curves");
  if (section && !(charts?.section === section && charts.isOf(section))) charts = new Charts(section);
  if (section) await charts.update();
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
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});

await arrange();
setInterval(showTimes, 1000);
setInterval(refresh, LONGEST_MS);
const events = new EventSource("/events");
events.addEventListener("round", () => { tell(""); refresh(); });
events.addEventListener("error", () => {
  document.body.classList.add("cut-off");
});
events.addEventListener("open", () => document.body.classList.remove("cut-off"));
