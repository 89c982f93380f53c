// The form that starts a training. Its one truth is the JSON of all settings: fields show parts of it and edit them.
import { call, tell } from "./api.js";

/** What holds the setting at a path; made where it is missing. */
const owner = (settings, path) => path.slice(0, -1).reduce((part, name) => (part[name] ??= {}), settings);

export function attach(section) {
  const all = section.querySelector("#all-settings");
  const begin = section.querySelector("#begin-with");
  const fields = [...section.querySelectorAll("[data-path]")];
  const pathOf = (field) => field.dataset.path.split(".");
  const read = () => {
    try {
      const settings = JSON.parse(all.value);
      return typeof settings === "object" ? settings : null;
    } catch {
      return null;
    }
  };
  const show = () => {
    const settings = read();
    if (!settings) return;
    for (const field of fields) field.value = owner(settings, pathOf(field))[pathOf(field).at(-1)] ?? "";
    // Shapes of shared tensors follow from the embedding size, and only a trainer knows how.
    const dim = section.querySelector("[data-path=dim]");
    dim.disabled = Object.keys(settings.dense ?? {}).length > 0 || settings.relation_dim != null;
    dim.title = dim.disabled ? "Fixed by the shared tensors of these settings; `tripleherd start --dim` makes others." : "";
  };
  const mark = (paths) => {
    for (const field of fields) {
      if (paths.includes(field.dataset.path)) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
  };
  const choose = () => {
    all.value = begin.selectedOptions[0].dataset.settings;
    show();
  };

  begin.addEventListener("change", choose);
  all.addEventListener("input", show);
  for (const field of fields) {
    field.addEventListener("input", () => {
      const settings = read();
      if (!settings || field.validity.badInput) return;
      const [part, name] = [owner(settings, pathOf(field)), pathOf(field).at(-1)];
      if (field.value === "") delete part[name]; // the coordinator has a default
      else part[name] = field.type === "number" ? Number(field.value) : field.value;
      all.value = JSON.stringify(settings, null, 2);
    });
  }
  section.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter ?? section.querySelector("form button");
    button.disabled = true;
    mark([]);
    if (read()) {
      if (await call("POST", "/round", all.value, mark) && location.search) location.assign("/"); // from a past training to it
    } else tell("The settings are not JSON: mend them under “All settings”, or choose others to begin with.");
    button.disabled = false;
  });
  choose();
  section.querySelector("fieldset").disabled = false;
}
