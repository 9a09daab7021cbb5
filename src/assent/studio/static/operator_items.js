// Items: hidden characters made visible, the cover over what may hurt, and withdrawing one.
import { byId, wake } from "./dom.js";
import { held } from "./operator.js";
import { send } from "./net.js";
import { visible } from "./text.js";

for (const place of document.querySelectorAll("[data-told]")) place.replaceChildren(...visible(place.textContent));

document.getElementById("uncover")?.addEventListener("click", () => {
  const texts = document.getElementById("texts");
  document.getElementById("cover").remove();
  texts.classList.remove("blurred");
  texts.inert = false;
  texts.focus({ preventScroll: true });
});

const button = document.getElementById("withdraw");
const ASKED = "Ask nobody else about this item? Answers to it stay. It cannot be put back into the queue.";
button?.addEventListener("click", () => confirm(ASKED) && held(button, document.getElementById("item-error"), async () => {
  await send("POST", `/api/operator/projects/${button.dataset.project}/withdraw`, { item_ids: [Number(button.dataset.item)] });
  location.reload();
}));

wake(byId("main"));
