// A send: what was said, its rounds with their model calls and tools, when each ran, what it cost, what came of it.

import { ask, badge, bdi, count, duration, h, link, money, passage, plain, s, state, when } from "./dom.js";

export function sendView(session, send) {
  const said = send.items.find((item) => item.kind === "user_said");
  const tokens = send.prompt_tokens ? `${count(send.prompt_tokens)} + ${count(send.completion_tokens)} tokens` : "";
  const numbers = [duration(send.took_ms), tokens, money(send.cost), send.failed_calls ? `${send.failed_calls} failed` : ""].filter(Boolean).join(" · ");
  const begins = said ? bdi(said.text.shown.slice(0, 160)) : `records ${count(send.from_seq)} to ${count(send.through_seq)}`;
  const summary = h("summary", { "data-row": true }, h("span", { class: "nr" }, `#${send.send}`), send.status ? state(send.status) : null,
    send.cut.length ? badge("part") : null, h("span", { class: "said" }, begins), h("span", { class: "dim numbers" }, numbers));
  // A part that more follows behind is not where the send's address leads.
  const id = send.cut.includes("after") ? `send-${send.send}-${send.from_seq}` : `send-${send.send}`;
  const view = h("details", { id, class: "send card", "data-seq": send.through_seq }, summary);
  let filled = false;
  view.addEventListener("toggle", () => { if (view.open && !filled) { filled = true; view.append(body(session, send)); } });
  return view;
}

function body(id, send) {
  const facts = h("p", { class: "dim" }, when(send.at), " · ", h("a", { href: link("session", { id, send: send.send }) }, "permalink"),
    send.key ? [" · key ", h("code", {}, plain(send.key))] : null, send.reason ? ` · ${plain(send.reason)}` : "");
  const error = send.error ? h("p", { class: "bad" }, h("strong", {}, plain(send.error.code)), ` ${plain(send.error.message)}`) : null;
  return h("div", { class: "items" }, facts, error, send.items.map((item) => itemView(id, send, item)));
}

// The rest of a text: of a record, of what a model thought (`think`), of the arguments of a call (its number).
const rest = (id, seq, part = "") => (from, size) => ask("record", { id, seq, part, from, size });

// When something ran, as a part of its send's time.
function track(send, began, took, kind) {
  if (took === null || took === undefined) return null;
  const all = Math.max(1, send.took_ms);
  const x = Math.min(99, Math.max(0, (100 * (began - send.at)) / all));
  const bar = s("rect", { x: `${x}%`, width: `${Math.max(1, Math.min(100 - x, (100 * took) / all))}%`, height: "100%", rx: 3 });
  return [s("svg", { class: `track ${kind}`, "aria-hidden": "true" }, bar), h("span", { class: "took" }, duration(took))];
}

function itemView(id, send, item) {
  if (item.kind === "model_replied") return replyView(id, send, item);
  if (item.calls) return h("div", { class: "item" }, callsView(id, send, item.calls));
  const seq = h("span", {}, `seq ${item.seq}`);
  if (item.kind === "user_said") {
    return h("div", { class: "item user" }, h("p", { class: "line" }, h("strong", {}, item.name ? plain(item.name) : "User"), seq), passage(item.text, rest(id, item.seq), "text"));
  }
  if (item.kind === "context_folded") {
    const covers = `covers sends 1 to ${item.through_send}: ${count(item.before_tokens)} to ${count(item.after_tokens)} tokens`;
    return h("details", { class: "item fold" }, h("summary", { class: "line" }, h("strong", {}, "Fold"), covers, seq), passage(item.text, rest(id, item.seq), "text"));
  }
  if (item.kind === "step_changed") return stepView(item, seq);
  return otherView(item, seq);
}

function otherView(item, seq) {
  const charged = item.usage ? `${count(item.usage.prompt)} + ${count(item.usage.completion)} tokens${item.usage.estimated ? " (estimated)" : ""}` : "";
  const rest = item.reason || item.note || (item.error?.message ?? item.error) || (item.fields ? JSON.stringify(item.fields) : item.status ?? "");
  const parts = [item.purpose, charged, item.usage ? money(item.usage.cost) : "", typeof rest === "string" ? rest : JSON.stringify(rest)].filter(Boolean);
  return h("div", { class: item.error ? "item broken" : "item" }, h("p", { class: "line" }, h("strong", {}, plain(item.kind.replaceAll("_", " "))), parts.map((part) => h("span", {}, plain(part))), seq));
}

function stepView(item, seq) {
  const used = item.usage ? h("span", {}, `${count(item.usage.prompt)} + ${count(item.usage.completion)} tokens`) : null;
  const leaf = item.session_id ? h("a", { href: link("session", { id: item.session_id }) }, "session") : null;
  return h("div", { class: item.error ? "item broken" : "item" },
    h("p", { class: "line" }, h("strong", {}, plain(item.step || "run")), state(item.state), used, item.attempt > 1 ? `attempt ${item.attempt}` : null, leaf, seq),
    item.error ? h("p", { class: "bad" }, plain(item.error)) : null, item.text.chars ? passage(item.text, null, "text") : null);
}

function replyView(id, send, item) {
  const used = item.usage;
  const cached = used.cache_read ? ` (${count(used.cache_read)} cached)` : "";
  const facts = [plain(item.model ?? ""), `${count(used.prompt)}${cached} + ${count(used.completion)} tokens${used.estimated ? " (estimated)" : ""}`,
    money(used.cost), item.finish_reason === "stop" ? "" : plain(item.finish_reason)].filter(Boolean).map((fact) => h("span", {}, fact));
  return h("div", { class: "item model" },
    h("p", { class: "line" }, h("strong", {}, item.purpose === "round" ? `Round ${(item.round ?? 0) + 1}` : plain(item.purpose)), facts,
      h("a", { href: link("request", { id, seq: item.seq }) }, "request"), h("span", {}, `seq ${item.seq}`), track(send, item.at - item.took_ms, item.took_ms, "")),
    item.think.chars ? h("details", {}, h("summary", { class: "line" }, "reasoning"), passage(item.think, rest(id, item.seq, "think"), "text")) : null,
    item.text.chars ? passage(item.text, rest(id, item.seq), "text") : null,
    item.calls.length ? callsView(id, send, item.calls, item.seq) : null);
}

const callsView = (id, send, calls, seq) => h("div", { class: "calls" }, calls.map((call, n) => callView(id, send, call, seq && rest(id, seq, n))));

function callView(id, send, call, more) {
  const decided = call.decided ? `${call.decided.approved ? "approved" : "denied"}${call.decided.by ? ` by ${call.decided.by}` : ""}${call.decided.note ? `: ${call.decided.note}` : ""}` : "";
  const once = call.began_at && !call.rewritten;
  const facts = [
    ["Call", call.id], ["Key", call.key], ["Effects", once ? "once: never repeated by itself" : call.ran && call.returned_at ? "may be repeated" : ""],
    ["Ran", call.outcome === "unknown" ? "begun and cut off: whether it took effect is not known" : call.ran === false ? "no handler was called" : ""], ["Asked", call.asked ? call.asked.prompt ?? call.asked.kind : ""], ["Decided", decided],
  ].filter(([, value]) => value);
  const began = call.returned_at ? call.returned_at - (call.took_ms ?? 0) : 0;
  const summary = h("summary", {}, state(call.outcome), h("code", {}, plain(call.name ?? call.id)), once ? badge("once") : null,
    h("span", { class: "arguments" }, plain((call.arguments?.shown ?? "").slice(0, 160))), call.returned_at && call.ran ? track(send, began, call.took_ms, "tool") : null);
  return h("details", { class: "call" }, summary, h("div", {},
    h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, ["Call", "Key"].includes(name) ? h("code", {}, plain(value)) : plain(value))])),
    call.arguments ? passage(call.arguments, more) : null,
    call.rewritten ? [h("p", {}, `a hook made it ${plain(call.rewritten.name)}`), passage(call.rewritten.arguments, null)] : null,
    call.output ? passage(call.output, rest(id, call.result_seq)) : h("p", { class: "dim" }, "no result yet")));
}
