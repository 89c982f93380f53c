// Viewers' passes behind the address, as #pass=TOKEN: a fragment is in no server's log. It leaves the address at once.
import { call } from "./api.js";

export async function signIn(token) {
  if (await call("POST", "/session", JSON.stringify({ token }))) location.replace(location.pathname + location.search);
}

/** Takes a pass out of the address, now and when a link is pasted into this tab, and opens the page with it if `wanted`. */
export function watchAddress(wanted) {
  const take = () => {
    const pass = new URLSearchParams(location.hash.slice(1)).get("pass");
    if (!pass) return;
    history.replaceState(null, "", location.pathname + location.search);
    if (wanted) signIn(pass);
  };
  addEventListener("hashchange", take);
  take();
}
