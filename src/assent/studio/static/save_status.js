// The one line that says where the answers are: on this device or on the server's disk.
import { byId, count, make } from "./dom.js";
import { say } from "./item_view.js";
import { PHASES } from "./outbox.js";

const PATIENCE_MS = 700;  // how long an answer may be on its way before the line says so

export class SaveStatus {
  constructor(outbox) {
    this.outbox = outbox;
    this.line = byId("save");
    this.words = byId("save-words");
    this.saved = 0;
    this.troubled = false;
    outbox.addEventListener("saved", () => { this.saved += 1; });
    outbox.addEventListener("change", () => this.update());
    this.update();
  }

  update() {
    clearTimeout(this.timer);
    const { phase, waiting, refused } = this.outbox;
    this.line.dataset.waiting = waiting;
    if (phase === PHASES.sending) {
      this.line.dataset.phase = "sending";
      this.timer = setTimeout(() => { this.words.textContent = `Saving ${waiting} …`; }, PATIENCE_MS);
      return;
    }
    this.line.dataset.phase = phase;
    if (phase === PHASES.waiting) this.trouble(`${count(waiting, "answer")} waiting, kept on this device`, "The server cannot be reached. Your answers are kept on this device and will be sent.");
    else if (phase === PHASES.signedOut) this.trouble(`${count(waiting, "answer")} kept on this device`, "You are signed out. Sign in again and your answers will be sent.");
    else {
      this.words.textContent = this.saved ? `Saved · ${this.saved.toLocaleString("en")}` : "";
      if (this.troubled) say("All answers are saved.");
      this.troubled = false;
      byId("connection").replaceChildren();
    }
    if (refused.length) this.words.append(` · ${refused.length} not accepted`);
  }

  trouble(words, announcement) {
    this.words.textContent = words;
    if (!this.troubled) say(announcement);
    this.troubled = true;
    if (this.outbox.phase !== PHASES.signedOut) return;
    byId("connection").replaceChildren(make("p", { class: "notice warn" }, "You are signed out. ", make("a", { href: "/sign-in" }, "Sign in"), " and what waits on this device will be sent."));
  }
}
