// Calls of the coordinator's API with this browser's session, and what is said where one is refused.

/** Returns whether it was done; `mark` is told the paths of the fields at fault. */
export async function call(method, path, body, mark = () => {}) {
  const headers = { "Tripleherd-Page": "1" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method, headers, body });
  } catch {
    return tell("The coordinator does not answer. The page goes on when it does.");
  }
  if (reply.ok) return tell("");
  // The session has ended, and the page asks for a token; on the page that asks, the token was wrong.
  if (reply.status === 401 && path !== "/session") location.reload();
  const problem = await reply.json().catch(() => ({}));
  // A rule over several fields is the whole body's, and its message begins with the field that it is about.
  const lines = (problem.errors ?? []).map(({ field, message }) => `${field}: ${message}`.replace(/^body[.:] ?/, ""));
  mark(lines.map((line) => line.split(":")[0]));
  return tell(lines.join("\n") || (problem.detail ?? `It was refused (${reply.status}).`));
}

/** Shows a message, or hides the last one where it is empty; returns whether there was nothing to tell. */
export function tell(message) {
  const place = document.querySelector("#problem");
  place.textContent = message;
  place.hidden = !message;
  if (message) place.scrollIntoView({ block: "nearest" });
  return !message;
}
