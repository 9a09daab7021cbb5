// Making nodes. Text only ever becomes a text node; there is no way from a string to markup in this program.

/** An element: `attributes` are set as attributes (true: present, false, null: absent), functions become listeners. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** The element with this id; a missing one is our own mistake. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** Lets the buttons within `root` be pressed. A page sends them disabled: pressed before its program listens, they would do nothing, or send a form the browser's own way. */
export function wake(root) {
  for (const button of root.querySelectorAll("[data-asleep]")) {
    button.disabled = false;
    delete button.dataset.asleep;
  }
}

/** A button that a pointer can press without taking the keyboard's place away from the task. */
export function pressable(attributes, ...children) {
  return make("button", { type: "button", onmousedown: (event) => event.preventDefault(), ...attributes }, ...children);
}

export function key(words) { return make("kbd", { "aria-hidden": "true" }, words); }

/** "1 answer", "3 answers". */
export function count(number, one, many = `${one}s`) { return `${number.toLocaleString("en")} ${number === 1 ? one : many}`; }

/** An unguessable name of 128 bits; crypto.randomUUID would need TLS, which a studio on a local network may not have. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
