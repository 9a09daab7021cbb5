// The guidelines beside the task: the version that the item on the screen is annotated by.
import { byId, make } from "./dom.js";
import { markdown } from "./markdown.js";
import { get } from "./net.js";

const OPEN = "assent.guide.open", READ = "assent.guide.read.";
const WIDE = "(min-width: 75rem)";

function remembered(name) { try { return localStorage.getItem(name); } catch { return null; } }
function remember(name, value) { try { localStorage.setItem(name, value); } catch { /* no storage: asked again next time */ } }

export class Guide {
  constructor(projectId) {
    this.projectId = projectId;
    this.version = null;
    this.mark = "";  // of what is shown: the version, or the instructions where no version is written
    this.texts = new Map();
    this.panel = byId("guide");
    this.button = byId("open-guide");
    this.button.addEventListener("click", () => this.toggle());
    byId("close-guide").addEventListener("click", () => { this.toggle(false); this.button.focus(); });
  }

  get open() { return !this.panel.hidden; }

  toggle(open = !this.open, { remembering = true } = {}) {
    this.panel.hidden = !open;
    document.body.classList.toggle("with-guide", open);
    this.button.setAttribute("aria-expanded", String(open));
    if (remembering) remember(OPEN, open ? "yes" : "no");
    if (open) {
      this.seen();
      if (!matchMedia(WIDE).matches) byId("close-guide").focus();
    }
  }

  seen() {
    if (!this.mark) return;
    remember(READ + this.projectId, this.mark);
    this.button.classList.remove("news");
    byId("guide-news").textContent = "";
  }

  /** Shows the instructions and version `version` of the guidelines (0: none is written), fetching it once. */
  async show(version, instructions = "") {
    if (version === this.version) return;
    this.version = version;
    byId("guide-version").textContent = version ? `Version ${version}` : "";
    const text = version ? this.texts.get(version) ?? (await get(`/api/projects/${this.projectId}/guideline?version=${version}`)).text : "";
    this.texts.set(version, text);
    if (version !== this.version) return;  // another came in the meantime
    const parts = [instructions, text].filter((part) => part.trim()).map((part) => markdown(part, { headings: 3 }));
    byId("guide-text").replaceChildren(...(parts.length ? parts : [make("p", { class: "muted" }, "No guidelines have been written for this project yet.")]));
    this.mark = version ? String(version) : instructions.trim().slice(0, 200);
    const read = remembered(READ + this.projectId);
    if (!this.mark || read === this.mark) return;
    if (this.open || (matchMedia(WIDE).matches && remembered(OPEN) !== "no")) this.toggle(true, { remembering: false });
    else {
      this.button.classList.add("news");
      byId("guide-news").textContent = read ? " (changed)" : " (new)";
    }
  }

  /** Open as it was left, on screens with room for it. */
  restore() {
    if (matchMedia(WIDE).matches && remembered(OPEN) === "yes") this.toggle(true, { remembering: false });
  }
}
