// Says something to the models and gives their answers piece by piece, as the server passes them on.
import { Refused, Unreachable } from "./net.js";

const meta = document.querySelector("meta[name=csrf]");
let csrf = meta?.content ?? "";

async function request(url, content, signal) {
  const headers = { accept: "text/event-stream, application/json", "content-type": "application/json", "x-csrf-token": csrf };
  try {
    return await fetch(url, { method: "POST", headers, body: JSON.stringify(content), signal, credentials: "same-origin", redirect: "error", cache: "no-store" });
  } catch (problem) {
    if (signal.aborted) throw problem;
    throw new Unreachable(problem);
  }
}

/** Another tab may have signed in anew: take up the token of now. True if it has changed. */
async function renewed(signal) {
  const response = await fetch("/api/me", { signal, credentials: "same-origin", cache: "no-store" }).catch(() => null);
  const me = response?.ok ? await response.json() : null;
  const before = csrf;
  csrf = me?.csrf ?? csrf;
  return csrf !== before;
}

/** Events of the answer, one object each. Throws Refused, Unreachable, or what `signal` was aborted with. */
export async function* saying(url, content, signal) {
  let response = await request(url, content, signal);
  if (response.status === 403 && await renewed(signal)) response = await request(url, content, signal);
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    throw new Refused(response.status, answer?.error, null);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (held + value).split("\n");
      held = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  } catch (problem) {
    if (signal.aborted || problem instanceof SyntaxError) throw problem;
    throw new Unreachable(problem);
  } finally {
    reader.cancel().catch(() => {});
  }
}
