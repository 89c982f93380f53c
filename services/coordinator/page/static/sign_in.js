// Trades a token for a session: typed, or behind the address.
import { signIn, watchAddress } from "./passes.js";

const form = document.querySelector("#sign-in");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(form.elements.token.value.trim());
});
form.querySelector("fieldset").disabled = false;
form.elements.token.focus();
watchAddress(true);
