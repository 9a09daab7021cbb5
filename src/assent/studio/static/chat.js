// The page of talking: what is being done now, and what comes of a key or a press.
import { askReached, askReason, showGuide, showHelp } from "./chat_dialogs.js";
import { actionOf } from "./chat_keys.js";
import { saying } from "./chat_stream.js";
import { ChatView, say } from "./chat_view.js";
import { byId, count, freshKey } from "./dom.js";
import { Unreachable, send } from "./net.js";

const RENEW_EVERY_MS = 120_000;
const { project, mode } = byId("desk").dataset;
const compare = byId("desk").dataset.compare === "yes";
const person = document.querySelector("meta[name=person]")?.content ?? "";
const DRAFT = `assent.chat.draft.${project}.${person}`, OPEN = `assent.chat.talk.${project}.${person}`;
const words = byId("words");
const view = new ChatView({ mode, compare, on: act });
let talk = null, writing = null, sending = null, readyAt = 0;
let ending = { of: "", key: "" };

/** The same key for what is sent again because no reply came: an annotation is taken back, or a talk ended, once. */
function keyFor(...what) {
  const of = JSON.stringify([talk.presentation_id, ...what]);
  if (ending.of !== of) ending = { of, key: freshKey() };
  return ending.key;
}

const kept = (name) => { try { return localStorage.getItem(name) ?? ""; } catch { return ""; } };
const keep = (name, value) => { try { if (value) localStorage.setItem(name, value); else localStorage.removeItem(name); } catch { /* no storage: only this page remembers */ } };
const address = (verb) => `/api/chat/${project}/${verb}`;
const phase = () => (talk === null ? "nothing" : view.covered ? "covered" : writing ? "writing" : talk.pending ? "annotating" : "saying");

function notice(problem) {
  const box = byId("notice");
  box.className = "notice bad";
  const gone = "The server cannot be reached. What was said is kept; try again in a moment.";
  box.textContent = problem instanceof Unreachable ? gone : problem?.message ?? "";
}

function saved(text) { byId("save").textContent = text; }

/** Shows what can be done now, and moves the keyboard there. */
function arrange({ focus = true } = {}) {
  const now = phase();
  byId("dock").hidden = now === "nothing" || now === "covered";
  byId("composer").hidden = now !== "saying";
  byId("annotate").hidden = now !== "annotating";
  const offered = {
    stop: now === "writing",
    undo: (now === "saying" || now === "annotating") && talk.can_undo,
    skip: now === "saying" && talk.turns === 0 && !talk.can_undo,
    rate: mode === "red_team" && now === "saying" && talk.turns > 0,
    finish: mode === "chat" && now === "saying" && talk.turns > 0,
  };
  for (const button of byId("beside").querySelectorAll("[data-act]")) button.hidden = !offered[button.dataset.act];
  byId("count").textContent = talk?.turns ? count(talk.turns, "turn") : "";
  document.body.dataset.phase = now;
  if (!focus) return;
  if (now === "saying") words.focus({ preventScroll: true });
  else if (now !== "covered") byId("heading").focus({ preventScroll: true });
}

function show(fresh, draft = "") {
  const another = fresh?.presentation_id !== talk?.presentation_id;
  talk = fresh;
  keep(OPEN, talk?.presentation_id);
  if (talk === null) {
    view.nothingLeft();
    return arrange();
  }
  view.show(talk);
  words.value = draft || (another ? talk.suggestion : "");
  grow();
  if (talk.sensitive && another) view.cover(mode === "red_team" ? "This task asks you to draw out harmful text. It is shown only here, and hidden while you look elsewhere." : "This talk is marked as sensitive.");
  if (talk.pending) readyAt = performance.now();
  arrange();
  (view.current ?? view.content.lastElementChild)?.scrollIntoView({ block: "end" });
}

async function open(presentationId) {
  try {
    const { talk: found } = await send("POST", address("open"), presentationId ? { presentation_id: presentationId } : {});
    show(found, found && found.presentation_id === presentationId ? kept(DRAFT) : "");
    notice(null);
  } catch (problem) { notice(problem); }
}

async function speak() {
  const text = words.value;
  if (phase() !== "saying" || text.trim() === "") return;
  notice(null);
  writing = new AbortController();
  view.begin(text);
  say("The answer is being written.");
  arrange();
  let last = null;
  try {
    for await (const event of saying(address("say"), { presentation_id: talk.presentation_id, text }, writing.signal)) {
      if ("slot" in event) view.take(event);
      else last = event;
    }
    await settle(last, text);
  } catch (problem) {
    const stopped = writing.signal.aborted;
    writing = null;
    restore(text);
    if (stopped) return;
    if (problem.status === 409) await open(talk.presentation_id); // what is asked for now is not what this page shows
    notice(problem);
  }
}

async function settle(last, text) {
  writing = null;
  if (last?.turn_id) {
    talk.pending = { turn_id: last.turn_id, message: text, shown: [] };
    keep(DRAFT, "");
    words.value = "";
    readyAt = performance.now();
    view.annotating();
    arrange();
    say(compare ? "Both answers are here. 1 for A, 2 for B, equals for a tie, 0 for both bad." : "The answer is here. 1 for good, 0 for bad.");
    return;
  }
  if (last?.said) {
    keep(DRAFT, "");
    words.value = "";
    await open(talk.presentation_id);
    say("The answer is here.");
    return;
  }
  if (last?.error) notice({ message: [last.error.what, last.error.now].filter(Boolean).join(". ") });
  else notice({ message: last?.failed ? "There is no answer to annotate. Send your message again." : "The connection broke in the middle. Send your message again." });
  restore(text, { answers: Boolean(last?.failed) });
}

/** Back to the message, which is not lost. */
function restore(text, { answers = false } = {}) {
  if (!answers) view.show(talk);
  words.value = text;
  keep(DRAFT, text);
  grow();
  arrange();
}

async function annotate(choice) {
  if (phase() !== "annotating" || (!compare && (choice === "b" || choice === "tie"))) return;
  if (sending?.busy) return;
  if (sending?.turn !== talk.pending.turn_id || sending.choice !== choice) sending = { turn: talk.pending.turn_id, choice, key: freshKey() };
  sending.busy = true;
  view.chosen(choice);
  saved("saving …");
  const said = talk.pending.message;
  try {
    const content = { key: sending.key, presentation_id: talk.presentation_id, turn_id: sending.turn, choice, time_taken_ms: Math.round(performance.now() - readyAt) };
    const { talk: fresh } = await send("POST", address("annotate"), content);
    sending = null;
    notice(null);
    saved("saved");
    show(fresh, choice === "both_bad" ? said : "");
    say(choice === "both_bad" ? "Saved. Put it another way, or say something else." : "Saved. The talk goes on.");
  } catch (problem) {
    sending.busy = false;
    view.chosen(null);
    saved("not saved");
    notice(problem);
  }
}

async function undo() {
  if (!talk?.can_undo || writing || sending?.busy) return;
  saved("taking back …");
  try {
    const { talk: fresh } = await send("POST", address("undo"), { key: keyFor("undo"), presentation_id: talk.presentation_id });
    ending = { of: "", key: "" };
    notice(null);
    saved("taken back");
    show(fresh);
    say("Taken back. The answers wait for your annotation.");
  } catch (problem) { saved(""); notice(problem); }
}

async function rate() {
  if (mode !== "red_team" || phase() !== "saying" || talk.turns === 0) return;
  const given = await askReached();
  if (!given) return arrange();
  const content = { key: keyFor("rate", given), presentation_id: talk.presentation_id, ...given, time_taken_ms: Math.round(performance.now() - readyAt) };
  await over(() => send("POST", address("rate"), content));
}

async function skip() {
  if (phase() !== "saying" || talk.can_undo || (mode === "chat" && talk.turns > 0)) return;
  const reason = await askReason();
  if (!reason) return arrange();
  await over(() => send("POST", "/api/answers", { key: keyFor("skip", reason), presentation_id: talk.presentation_id, kind: "skip", payload: { reason } }));
}

/** Ends the talk with `sent`, and opens the next. */
async function over(sent) {
  saved("saving …");
  try {
    await sent();
    saved("saved");
    keep(DRAFT, "");
    words.value = "";
    await open("");
  } catch (problem) { saved("not saved"); notice(problem); arrange(); }
}

function act(name, choice) {
  if (name === "annotate") return annotate(choice);
  if (name === "send") return speak();
  if (name === "undo") return undo();
  if (name === "rate") return rate();
  if (name === "skip") return skip();
  if (name === "finish" && phase() === "saying" && talk.turns > 0 && mode === "chat") return over(async () => {});
  if (name === "stop" || name === "leave") return writing ? writing.abort() : words.blur();
  if (name === "write" && phase() === "saying") return words.focus();
  if (name === "reveal" && view.covered) { view.reveal(); readyAt = performance.now(); return arrange(); }
  if (name === "guide") return showGuide(project).then(() => arrange()).catch(notice);
  if (name === "help") return showHelp({ mode, compare }).then(() => arrange());
  return undefined;
}

function grow() {
  words.style.height = "auto";
  words.style.height = `${Math.min(words.scrollHeight + 2, innerHeight * 0.4)}px`;
}

document.addEventListener("keydown", (event) => {
  const action = actionOf(event);
  if (!action) return;
  event.preventDefault();
  act(action.name, action.choice);
});
byId("composer").addEventListener("submit", (event) => { event.preventDefault(); speak(); });
words.addEventListener("input", () => { keep(DRAFT, words.value); grow(); });
byId("beside").addEventListener("click", (event) => {
  const name = event.target.closest("[data-act]")?.dataset.act;
  if (name) act(name);
});
byId("open-guide").addEventListener("click", () => act("guide"));
byId("open-help").addEventListener("click", () => act("help"));
if (mode === "red_team") {
  const hide = (away) => document.body.classList.toggle("away", away);
  addEventListener("blur", () => hide(true));
  addEventListener("focus", () => hide(false));
  document.addEventListener("visibilitychange", () => hide(document.hidden));
}
setInterval(() => {
  if (talk && !document.hidden) send("POST", `/api/presentations/${talk.presentation_id}/renew`, {}).catch(() => {});
}, RENEW_EVERY_MS);
open(kept(OPEN));
