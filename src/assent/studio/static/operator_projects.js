// The list of projects: live figures, and a new project.
import { byId, wake } from "./dom.js";
import { dialogOf, fill, followMode, get, onSubmit, poll, projectSettings } from "./operator.js";
import { send } from "./net.js";

const list = document.querySelector("[data-live]");
poll(async () => fill(list, await get(list.dataset.live)), 5_000);

const form = document.getElementById("project-form");
if (form) {
  dialogOf(document.getElementById("project-dialog"), document.getElementById("new-project"));
  followMode(form);
  onSubmit(form, document.getElementById("project-error"), async () => {
    const made = await send("POST", "/api/projects", { name: form.elements.name.value, settings: projectSettings(form) });
    location.assign(`/projects/${made.id}`);
  });
}

wake(byId("main"));
