// What happens in a session while one looks at it: records change the timeline, deltas show the text in hand.

import { GONE, plain, say } from "./dom.js";

const CALM_MS = 150;

// Leaves of a workflow begin without a record of its run: it is looked at again while somebody drives it.
const BEAT_MS = 2_000;

export function follow(id, head, { live, changed, beats = false }) {
  const source = new EventSource(`/api/events?${new URLSearchParams({ id, after: head })}`);
  let timer = null;
  const soon = () => { timer ??= setTimeout(() => { timer = null; changed().catch(() => {}); }, CALM_MS); };
  const show = (text) => {
    live.textContent = plain(text);
    live.hidden = !text;
  };
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    if (event.type === "stream_delta") return show(event.text);
    if (event.type === "stream_started" || event.record_seq) show("");
    if (event.record_seq) soon();
  });
  let lost = false;
  source.addEventListener("error", () => { if (!lost) say(GONE); lost = true; });
  source.addEventListener("open", () => { if (lost) soon(); lost = false; });
  const beat = beats ? setInterval(() => { if (!document.hidden && document.querySelector("h1 ~ .standing .running")) soon(); }, BEAT_MS) : null;
  return { close: () => { clearTimeout(timer); clearInterval(beat); source.close(); } };
}
