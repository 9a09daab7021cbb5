// Settings, members and the archive of one project.
import { followMode, held, onSubmit, projectSettings } from "./operator.js";
import { byId, wake } from "./dom.js";
import { send } from "./net.js";

const address = `/api/projects/${byId("settings").dataset.project}`;
const form = byId("project-form");
followMode(form);
onSubmit(form, byId("project-error"), async () => {
  byId("project-saved").textContent = "";
  await send("PUT", address, { settings: projectSettings(form) });
  byId("project-saved").textContent = "Saved.";
});
form.addEventListener("input", () => { byId("project-saved").textContent = ""; });

const members = byId("members-form");
onSubmit(members, byId("members-error"), async () => {
  byId("members-saved").textContent = "";
  const ids = new FormData(members).getAll("person").map(Number);
  await send("PUT", `${address}/members`, { person_ids: ids });
  byId("members-saved").textContent = "Saved.";
});

const archive = byId("archive-project");
archive.addEventListener("click", () => held(archive, byId("archive-error"), async () => {
  await send("PUT", address, { archived: archive.dataset.archived !== "true" });
  location.reload();
}));

wake(byId("main"));
