// Times as people read them: how long ago, how long still. What the server wrote stays as the title.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function duration(seconds) {
  const [size, unit] = UNITS.find(([each]) => seconds >= each) ?? [1, "s"];
  const whole = Math.floor(seconds / size);
  const next = UNITS[UNITS.findIndex(([each]) => each === size) + 1];
  const rest = next && whole < 10 ? Math.floor((seconds - whole * size) / next[0]) : 0;
  return rest ? `${whole} ${unit} ${rest} ${next[1]}` : `${whole} ${unit}`;
}

function say(time, words) {
  time.title ||= time.textContent;
  if (time.textContent !== words) time.textContent = words;
}

export function showTimes() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[data-since]")) {
    const seconds = (now - Date.parse(time.dateTime)) / 1000;
    say(time, seconds < 2 ? "now" : `${duration(seconds)} ago`);
  }
  for (const time of document.querySelectorAll("time[data-until]")) {
    const seconds = (Date.parse(time.dateTime) - now) / 1000;
    say(time, seconds > 0 ? `in ${duration(seconds)}` : "now");
  }
}
