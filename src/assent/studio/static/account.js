// The account menu of the frame: appearance and signing out.
import { wake } from "./dom.js";
import { send } from "./net.js";

const menu = document.getElementById("account");

function kept(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

function keep(name, value) {
  try { localStorage.setItem(name, value); } catch { /* storage is switched off: the choice lasts as long as the page */ }
}

for (const choice of menu.querySelectorAll("input[name=theme]")) {
  choice.checked = choice.value === (kept("assent.theme") ?? "system");
  choice.addEventListener("change", () => {
    if (choice.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice.value;
    keep("assent.theme", choice.value);
  });
}

menu.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  event.stopPropagation();
  menu.open = false;
  menu.querySelector("summary").focus();
});
document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target)) menu.open = false; });

document.getElementById("sign-out").addEventListener("click", async () => {
  const leaving = new CustomEvent("assent:sign-out", { cancelable: true, detail: { waitFor: [] } });
  if (!document.dispatchEvent(leaving)) return;
  await Promise.allSettled(leaving.detail.waitFor);
  try { await send("POST", "/api/sign-out"); } finally { location.assign("/sign-in"); }
});

wake(menu);
