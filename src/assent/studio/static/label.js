// The annotator's page: puts its parts together and listens to keys and buttons.
import { Desk } from "./desk.js";
import { byId, make } from "./dom.js";
import { Drafts } from "./drafts.js";
import { Guide } from "./guide.js";
import { closable } from "./label_dialogs.js";
import { actionOf } from "./label_keys.js";
import { LabelSettings } from "./label_settings.js";
import { whoAmI } from "./net.js";
import { Outbox } from "./outbox.js";
import { Queue } from "./queue.js";
import { Rest } from "./rest.js";
import { SaveStatus } from "./save_status.js";
import { Sent } from "./undoing.js";

const NOTICE_MS = 15_000;
const { project: projectText, mode, instructions } = byId("desk").dataset;
const projectId = Number(projectText);

function listen(desk, settings) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const action = actionOf(event, settings);
    if (action && desk.actions.act(action.name, ...(action.digit ? [action.digit] : [])) !== false) event.preventDefault();
  });
  for (const button of document.querySelectorAll("[data-act]")) {
    button.addEventListener("mousedown", (event) => event.preventDefault());
    button.addEventListener("click", () => {
      more(false);
      desk.actions.act(button.dataset.act);
    });
  }
  for (const opener of ["open-help", "open-settings", "open-guide"]) {  // so that Enter goes on meaning "send" after a click
    byId(opener).addEventListener("mousedown", (event) => event.preventDefault());
  }
  byId("open-help").addEventListener("click", () => desk.actions.act("help"));
  byId("open-settings").addEventListener("click", () => settings.show());
  const more = (open) => {
    byId("beside").classList.toggle("open", open);
    byId("more-actions").setAttribute("aria-expanded", String(open));
  };
  byId("more-actions").addEventListener("click", () => more(!byId("beside").classList.contains("open")));
  addEventListener("pagehide", () => desk.keepDraft());
}

/** What became of an answer that the server did not take. */
function refusalWords({ status, what, message }) {
  if (status === 409 && what.includes("others have answered")) return "Somebody else answered that item in the meantime, so your answer was not needed.";
  if (status === 409 && what.includes("you have answered")) return "You had answered that item already, in another window perhaps. That first answer stands; this one was not kept.";
  return `One answer was not accepted: ${message} It is kept in the settings.`;
}

function tellRefusals(outbox) {
  outbox.addEventListener("refused", ({ detail: { problem } }) => {
    const notice = make("p", { class: "notice warn" }, refusalWords(problem));
    byId("notice").replaceChildren(notice);
    setTimeout(() => notice.remove(), NOTICE_MS);
  });
}

/** Blind first, then shown: what a model says of the item that was just answered, and how the answer differs. */
function tellModels(outbox) {
  outbox.addEventListener("saved", ({ detail: { entry, answer } }) => {
    if (!answer?.model) return;
    const { slot, probability } = answer.model;
    const { strength, ranks } = entry.body.payload;
    const lead = strength ?? (ranks ? ranks[0] - ranks[1] : 0);  // below 0: the first was chosen
    const agrees = lead === 0 ? "You called it a tie." : (lead < 0) === (slot === 0) ? "You agree." : "You chose the other. Undo, if it convinces you.";
    const notice = make("p", { class: "notice" }, `Of the item before this, AI says ${"AB"[slot]}, ${probability.toFixed(2)}. ${agrees}`);
    byId("notice").replaceChildren(notice);
    setTimeout(() => notice.remove(), NOTICE_MS);
  });
}

async function start() {
  const person = await whoAmI();
  const outbox = await Outbox.open(person.id);
  const queue = new Queue(projectId, outbox);
  const guide = new Guide(projectId);
  const drafts = new Drafts(person.id);
  const settings = new LabelSettings(person, outbox, () => queue.current?.topic ?? "");
  const sent = new Sent(projectId, outbox, queue);
  const desk = new Desk({ project: { id: projectId, mode, instructions }, outbox, queue, sent, drafts, settings, guide });
  new SaveStatus(outbox);
  new Rest(projectId, outbox);
  tellRefusals(outbox);
  tellModels(outbox);
  closable();
  listen(desk, settings);
  guide.restore();
  document.addEventListener("assent:sign-out", (event) => {
    if (outbox.waiting && !confirm("Some answers have not reached the server yet. They stay on this device until you sign in again here. Sign out?")) event.preventDefault();
    else event.detail.waitFor.push(queue.releaseAll());
  });
  outbox.pump();
  await desk.refill();
}

if (mode === "chat" || mode === "red_team") location.replace(`/chat/${projectId}`);
else {
  start().catch((problem) => {
    byId("item").replaceChildren(make("div", { class: "pause" }, make("h2", {}, "The page could not start"), make("p", {}, problem.message),
      make("p", {}, make("a", { class: "button", href: problem.status === 401 ? "/sign-in" : location.pathname }, problem.status === 401 ? "Sign in" : "Try again"))));
  });
}
