// People: roles, closing accounts, invitations as links that work once.
import { byId, wake } from "./dom.js";
import { dialogOf, held, onSubmit } from "./operator.js";
import { send } from "./net.js";

const error = byId("people-error");

for (const row of document.querySelectorAll("tr[data-person]")) {
  const address = `/api/people/${row.dataset.person}`;
  const role = row.querySelector("select[name=role]"), active = row.querySelector("button[name=active]");
  let before = role.value;
  role.addEventListener("change", () => held(role, error, async () => {
    try {
      await send("PUT", address, { role: role.value });
      before = role.value;
      location.reload();
    } catch (problem) {
      role.value = before;
      throw problem;
    }
  }));
  active.addEventListener("click", () => held(active, error, async () => {
    await send("PUT", address, { active: active.dataset.active !== "true" });
    location.reload();
  }));
  row.querySelector("button[name=password]").addEventListener("click", () => {
    byId("password-form").dataset.address = `${address}/password`;
    byId("password-name").textContent = row.querySelector("bdi").textContent;
    byId("password-new").value = "";
    byId("password-dialog").showModal();
  });
}

const passwords = dialogOf(byId("password-dialog"));
onSubmit(byId("password-form"), byId("password-error"), async () => {
  await send("PUT", byId("password-form").dataset.address, { new: byId("password-new").value });
  passwords.close();
});

const dialog = dialogOf(byId("invite-dialog"), byId("invite")), form = byId("invite-form"), made = byId("invite-made"), link = byId("invite-link");
dialog.addEventListener("close", () => { form.hidden = false; made.hidden = true; link.value = ""; byId("invite-copied").textContent = ""; form.reset(); });
form.addEventListener("change", () => { byId("invite-projects").hidden = new FormData(form).get("role") === "admin"; });

onSubmit(form, byId("invite-error"), async () => {
  const data = new FormData(form), role = data.get("role");
  const told = await send("POST", "/api/invitations", {
    role,
    project_ids: role === "admin" ? [] : data.getAll("project").map(Number),
    lifetime_s: Number(byId("invite-days").value) * 86_400,
  });
  link.value = new URL(told.path, location.origin).href;
  form.hidden = true;
  made.hidden = false;
  link.focus();
  link.select();
});

byId("invite-copy").addEventListener("click", async () => {
  link.select();
  let copied = false;
  try {
    await navigator.clipboard.writeText(link.value);
    copied = true;
  } catch {
    copied = document.execCommand("copy");  // without TLS the clipboard interface is not there
  }
  byId("invite-copied").textContent = copied ? "Copied." : "Press Ctrl+C to copy.";
});

wake(byId("main"));
