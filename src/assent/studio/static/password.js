// One's own password: a new one against the present one.
import { byId, wake } from "./dom.js";
import { send, trust } from "./net.js";

const form = byId("change"), words = byId("words"), button = form.querySelector("button");

function say(text, tone) {
  words.textContent = text;
  words.className = `notice ${tone}`;
  words.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { old, new: fresh, again } = form.elements;
  words.hidden = true;
  if (fresh.value !== again.value) {
    say("The two new passwords differ. Type the new one again.", "bad");
    again.select();
    return;
  }
  button.disabled = true;
  try {
    trust((await send("PUT", "/api/me/password", { old: old.value, new: fresh.value })).csrf);
    form.reset();
    say("Your password is changed. Your other sign-ins have ended.", "good");
  } catch (problem) {
    say(problem.message, "bad");
    (problem.where === "new" ? fresh : old).select();
  } finally {
    button.disabled = false;
  }
});

wake(byId("main"));
