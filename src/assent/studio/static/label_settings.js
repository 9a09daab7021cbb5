// What an annotator sets for themselves: keys, cover, size of the text, topics they would rather not see; and what was refused.
import { byId, make } from "./dom.js";
import { send } from "./net.js";
import { visible } from "./text.js";

function read(name, fallback) { try { return localStorage.getItem(`assent.${name}`) ?? fallback; } catch { return fallback; } }
function write(name, value) { try { localStorage.setItem(`assent.${name}`, value); } catch { /* lasts as long as the page */ } }

export class LabelSettings {
  constructor(person, outbox, currentTopic) {
    Object.assign(this, { person, outbox, currentTopic, dialog: byId("settings") });
    this.topics = [...person.topics_declined];
    this.singleKeys = read("keys", "yes") === "yes";
    this.blur = read("blur", "yes") === "yes";
    this.raw = read("raw", "no") === "yes";
    const bind = (id, name) => {
      const box = byId(id);
      box.checked = this[name];
      box.addEventListener("change", () => { this[name] = box.checked; write(id === "set-keys" ? "keys" : "blur", box.checked ? "yes" : "no"); });
    };
    bind("set-keys", "singleKeys");
    bind("set-blur", "blur");
    for (const size of document.querySelectorAll("input[name=size]")) {
      size.checked = size.value === read("size", "normal");
      size.addEventListener("change", () => {
        document.documentElement.dataset.size = size.value;
        write("size", size.value);
      });
    }
    byId("topic-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = byId("topic");
      if (field.value.trim()) this.decline(field.value.trim());
      field.value = "";
    });
  }

  setRaw(raw) {
    this.raw = raw;
    write("raw", raw ? "yes" : "no");
  }

  show() {
    this.list();
    this.listRefused();
    this.dialog.showModal();
  }

  list() {
    const topic = this.currentTopic();
    const offer = byId("topic-offer");
    offer.hidden = !topic || this.topics.includes(topic);
    if (!offer.hidden) {
      offer.replaceChildren(make("button", { type: "button", class: "button slim", onclick: () => this.decline(topic) }, "Decline this item’s topic: ", make("bdi", {}, ...visible(topic))));
    }
    byId("topics").replaceChildren(...this.topics.map((one) => make("li", { class: "badge" }, make("bdi", {}, ...visible(one)),
      make("button", { type: "button", class: "drop", "aria-label": `Show items about ${one} again`, onclick: () => this.store(this.topics.filter((other) => other !== one)) }, "×"))));
    byId("no-topics").hidden = this.topics.length > 0;
  }

  decline(topic) { if (!this.topics.includes(topic)) this.store([...this.topics, topic]); }

  async store(topics) {
    const words = byId("topic-words");
    words.textContent = "";
    try {
      await send("PUT", "/api/me", { topics_declined: topics });
      this.topics = topics;
      this.list();
    } catch (problem) {
      words.textContent = problem.message;
    }
  }

  listRefused() {
    const { refused } = this.outbox;
    byId("refused-part").hidden = refused.length === 0;
    byId("refused").replaceChildren(...refused.map((entry) => make("li", {},
      make("p", {}, `${entry.body.kind.replaceAll("_", " ")} · ${entry.refusal.what}`),
      make("details", {}, make("summary", {}, "What was in it"), make("pre", {}, ...visible(JSON.stringify(entry.body.payload, null, 1)))),
      make("button", { type: "button", class: "button slim", onclick: async () => { await this.outbox.forget(entry.key); this.listRefused(); } }, "Discard"))));
  }
}
