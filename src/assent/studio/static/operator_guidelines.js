// Guidelines: write, preview, what has changed, publish as the next version.
import { byId, make } from "./dom.js";
import { differences } from "./diff.js";
import { markdown } from "./markdown.js";
import { onSubmit } from "./operator.js";
import { send } from "./net.js";

const page = byId("guidelines"), text = byId("guideline-text"), preview = byId("guideline-preview");
const form = document.getElementById("guideline-form");
const published = text.value;

function showPreview() { preview.replaceChildren(markdown(text.value, { headings: 3 })); }

if (!form) {
  showPreview();
} else {
  const changes = byId("guideline-changes"), state = byId("guideline-state"), button = form.querySelector("button[type=submit]");
  const draft = `assent.guideline.${page.dataset.project}.${page.dataset.newest}`;

  const kept = () => { try { return localStorage.getItem(draft); } catch { return null; } };
  const keep = (value) => { try { if (value === null) localStorage.removeItem(draft); else localStorage.setItem(draft, value); } catch { /* no storage: the text lives in the page */ } };

  function follow() {
    const changed = text.value !== published && text.value.trim() !== "";
    button.disabled = !changed;
    state.textContent = changed ? "Not published. Kept in this browser until then." : "Every answer remembers the version it was given under.";
    keep(changed ? text.value : null);
  }

  if (!new URLSearchParams(location.search).has("version") && kept()) text.value = kept();
  text.addEventListener("input", follow);
  follow();

  for (const choice of document.querySelectorAll("input[name=view]")) {
    choice.addEventListener("change", () => {
      text.hidden = choice.value !== "write";
      preview.hidden = choice.value !== "read";
      changes.hidden = choice.value !== "changes";
      if (choice.value === "read") showPreview();
      if (choice.value === "changes") {
        const runs = differences(published, text.value);
        const same = runs.every((run) => run.kind === "same");
        changes.replaceChildren(...(same ? ["Nothing has changed."] : runs.map(({ kind, text: words }) => (kind === "same" ? words : make(kind === "new" ? "ins" : "del", {}, words)))));
      }
    });
  }

  onSubmit(form, byId("guideline-error"), async () => {
    await send("POST", `/api/projects/${page.dataset.project}/guidelines`, { text: text.value });
    keep(null);
    location.assign(location.pathname);
  });
}
