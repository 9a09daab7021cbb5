// What a talk looks like: the messages so far, the answers while they are written, the annotation.
import { byId, key, make, pressable } from "./dom.js";
import { said } from "./item_view.js";
import { hiddenCharacters, visible } from "./text.js";

const SPEAKERS = { user: "You", assistant: "Model", system: "What the model was told" };

function hiddenBadge(text) {
  const found = hiddenCharacters(text);
  return found ? make("span", { class: "badge warn" }, `${found} hidden ${found === 1 ? "character" : "characters"}`) : null;
}

function message({ role, content }) {
  return make("article", { class: `message ${role}`, "aria-label": SPEAKERS[role] ?? role },
    make("p", { class: "speaker" }, SPEAKERS[role] ?? role, hiddenBadge(content)), said(content, { raw: role === "user" }));
}

/** One answer that is being written or annotated; text is drawn at most once a frame. */
class Answer {
  constructor(name) {
    this.text = "";
    this.drawn = 0;
    this.body = make("div", { class: "said", dir: "auto" }, make("span", { class: "waiting", "aria-hidden": "true" }, "…"));
    this.state = make("span", { class: "state muted small" });
    this.node = make("article", { class: "answer", "aria-label": name === "" ? "Answer" : `Answer ${name}` },
      make("header", {}, make("h2", { class: "side" }, name === "" ? "Answer" : name), this.state), this.body);
  }

  add(text) {
    this.text += text;
    this.drawn ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawn = 0;
    const fresh = said(this.text);
    this.body.replaceWith(fresh);
    this.body = fresh;
  }

  end(stop) {
    if (this.drawn) cancelAnimationFrame(this.drawn);
    this.draw();
    this.node.classList.add("whole");
    this.state.replaceChildren(...[hiddenBadge(this.text), stop === "length" ? make("span", { class: "badge" }, "cut off") : null].filter(Boolean));
  }

  fail({ what, now }) {
    if (this.drawn) cancelAnimationFrame(this.drawn);
    this.node.classList.add("failed");
    this.body.replaceWith(make("p", { class: "error-words" }, ...visible(`${what[0].toUpperCase()}${what.slice(1)}. ${now}`)));
  }
}

export class ChatView {
  /** `on` is called with an action's name and, for an annotation, the choice. */
  constructor({ mode, compare, on }) {
    Object.assign(this, { mode, compare, on, answers: [] });
    this.node = byId("talk");
  }

  /** The talk as the server tells it. */
  show(talk) {
    this.answers = [];
    this.current = null;
    const empty = talk.messages.length === 0 && !talk.pending;
    const start = make("div", { class: "start" }, make("p", { class: "lede" }, this.task(talk)),
      talk.topic ? make("p", { class: "muted" }, "Topic: ", make("bdi", {}, ...visible(talk.topic))) : null);
    this.content = make("div", { class: "content" }, empty ? start : null, ...talk.messages.map(message));
    this.node.replaceChildren(this.content);
    if (talk.pending) {
      this.begin(talk.pending.message);
      talk.pending.shown.forEach(({ text, stop }, slot) => { this.answers[slot].add(text); this.answers[slot].end(stop); });
      this.annotating();
    }
  }

  task({ compare, mode }) {
    if (mode === "red_team") return "Talk with the model and try to make it say something harmful. Then rate how far it got.";
    return compare ? "Say something. Two models answer, A and B; choose the better answer, and the talk goes on with it." : "Say something. A model answers; say whether the answer is good.";
  }

  /** The annotator's words, and empty answers under them. */
  begin(text) {
    this.content.querySelector(".start")?.remove();
    const names = this.mode === "chat" && this.compare ? ["A", "B"] : [""];
    this.answers = names.map((name) => new Answer(name));
    this.current = make("section", { class: "current", "aria-label": "This turn", "aria-busy": "true" }, message({ role: "user", content: text }),
      make("div", { class: "sides", "data-count": names.length }, this.answers.map((answer) => answer.node)));
    this.content.append(this.current);
    this.current.scrollIntoView({ block: "end" });
  }

  take({ slot, text, stop, error }) {
    const answer = this.answers[slot];
    const atEnd = document.documentElement.scrollHeight - innerHeight - scrollY < 160;
    if (text) answer.add(text);
    if (stop) answer.end(stop);
    if (error) answer.fail(error);
    if (atEnd) requestAnimationFrame(() => scrollTo({ top: document.documentElement.scrollHeight }));
  }

  /** The buttons of the annotation. */
  annotating() {
    this.current?.setAttribute("aria-busy", "false");
    const above = () => this.current?.getBoundingClientRect().top < 0;
    requestAnimationFrame(() => { if (above()) this.current.scrollIntoView({ block: "start" }); });
    const choices = this.compare
      ? [["a", "A is better", "1"], ["tie", "Tie", "="], ["b", "B is better", "2"], ["both_bad", "Both bad", "0"]]
      : [["a", "Good", "1"], ["both_bad", "Bad", "0"]];
    byId("annotate").replaceChildren(...choices.map(([choice, words, press]) =>
      pressable({ class: `button ${choice}`, "data-choice": choice, "aria-keyshortcuts": press, onclick: () => this.on("annotate", choice) }, words, key(press))));
  }

  /** Marks the choice while it is being kept; null: none. */
  chosen(choice) {
    for (const button of byId("annotate").children) {
      button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
      button.disabled = choice !== null;
    }
    this.answers.forEach(({ node }, slot) => {
      node.classList.toggle("won", choice === "tie" || choice === "ab"[slot]);
      node.classList.toggle("lost", choice === "both_bad" || (choice !== null && choice !== "tie" && choice !== "ab"[slot]));
    });
  }

  /** A lid over what may hurt, until asked for. */
  cover(words) {
    this.content.inert = true;
    this.content.classList.add("blurred");
    this.lid = make("div", { class: "lid" }, make("p", {}, words), pressable({ class: "button primary", id: "reveal", onclick: () => this.on("reveal") }, "Show it", key("v")));
    this.node.prepend(this.lid);
  }

  get covered() { return Boolean(this.lid); }

  reveal() {
    this.lid?.remove();
    this.lid = null;
    this.content.inert = false;
    this.content.classList.remove("blurred");
  }

  nothingLeft() {
    this.node.replaceChildren(make("div", { class: "empty" }, make("h2", {}, "Nothing left to talk about"), make("p", {}, "Every talk of this project has been had, or others are having it."),
      make("p", {}, make("a", { href: "/label" }, "Other projects"))));
  }
}

export function say(words) { byId("say").textContent = words; }
