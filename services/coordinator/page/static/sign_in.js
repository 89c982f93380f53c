// Trades a token for a session: typed, or behind the address as #pass=TOKEN, which never reaches a server's log.
import { call } from "./api.js";

async function open(token) {
  if (await call("POST", "/session", JSON.stringify({ token }))) location.replace(location.pathname + location.search);
}

const form = document.querySelector("#sign-in");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  open(form.elements.token.value.trim());
});

form.querySelector("fieldset").disabled = false;
form.elements.token.focus();

const pass = new URLSearchParams(location.hash.slice(1)).get("pass");
if (pass) {
  history.replaceState(null, "", location.pathname + location.search);
  open(pass);
}
