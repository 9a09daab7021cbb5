// Signing in, and joining by invitation: the same small form.
import { send } from "./net.js";
import { byId, wake } from "./dom.js";

const form = byId("door"), words = byId("words"), button = form.querySelector("button");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  words.hidden = true;
  button.disabled = true;
  const given = { name: form.elements.name.value.trim(), password: form.elements.password.value };
  if (form.dataset.token) given.token = form.dataset.token;
  try {
    await send("POST", form.dataset.url, given);
    location.replace("/");
  } catch (problem) {
    words.textContent = problem.message;
    words.hidden = false;
    button.disabled = false;
    form.elements.password.select();
  }
});

wake(byId("main"));
