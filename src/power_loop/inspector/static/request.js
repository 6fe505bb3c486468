// The request behind one reply, and where it parts from the one before.

import { ask, badge, count, h, link, passage, plain, s, several, state } from "./dom.js";

export async function requestPage(query) {
  const id = query.get("id");
  const seq = Number(query.get("seq"));
  const request = await ask("request", { id, seq });
  const all = request.left_out + request.messages.length;
  const content = h("section", {}, h("p", { class: "up" }, h("a", { href: link("session", { id, send: request.send }), "data-up": true }, "back to the timeline")),
    h("h1", {}, `Request behind reply ${seq}`),
    h("section", { class: "card block" }, facts(id, request, all), bar(request, all), h("p", { class: "dim" }, request.sent ? "As it was sent: this loop keeps its requests."
      : "Derived from the records. Memory, todos and what hooks changed are stored nowhere; only the digest knows of them.")),
    request.sent ? h("details", { class: "card block" }, h("summary", {}, "Settings, system prompt and tools, as they were sent"), h("dl", { class: "facts" }, Object.entries(request.sent).map(([name, text]) =>
      [h("dt", {}, plain(name)), h("dd", {}, passage(text, null))]))) : null,
    messages(request));
  return { title: `Request ${seq}`, content };
}

function facts(id, request, all) {
  const used = request.usage;
  const rows = [
    ["Send, round", `${request.send}, ${(request.round ?? 0) + 1}`],
    ["Digest of the whole request", h("code", {}, plain(request.digest ?? "none"))],
    ["Size", `${several(all, "message")}; ${count(used.prompt)} tokens${used.estimated ? " (estimated)" : ""}, ${count(used.cache_read)} of them from a cache`],
    ["Prefix", verdict(request)],
    request.previous_seq ? ["Before it", h("a", { href: link("request", { id, seq: request.previous_seq }) }, `request of reply ${request.previous_seq}`)] : null,
  ].filter(Boolean);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function verdict(request) {
  if (!request.previous_messages) return "the first request that is known";
  if (request.common === request.previous_messages) return [state("stable"), ` begins with the ${several(request.previous_messages, "message")} of the one before: a cache may serve them`];
  return [state("changed"), ` parts from the one before at message ${request.common + 1} of ${count(request.previous_messages)}: caches end there`];
}

// How much of it stood in the request before.
function bar(request, all) {
  const share = all ? (100 * Math.min(request.common, all)) / all : 0;
  return s("svg", { class: "part", role: "img", "aria-label": `${Math.round(share)} % of the messages are as in the request before` },
    s("rect", { class: "cached", width: `${share}%`, height: "100%" }), s("rect", { class: "input", x: `${share}%`, width: `${100 - share}%`, height: "100%" }));
}

function messages(request) {
  const known = Math.max(0, request.common - request.left_out);
  const list = (shown, kind, first) => h("ol", { class: "messages", start: first }, shown.map((message, n) => one(message, kind, first + n)));
  const missing = request.previous_messages - request.common;
  const fresh = request.messages.slice(known);
  return [
    request.common ? h("details", { class: "card block", open: fresh.length === 0 }, h("summary", {}, `${several(request.common, "message")} as in the request before`),
      request.left_out ? h("p", { class: "dim" }, `Left out here: the first ${several(request.left_out, "message")}.`) : null, list(request.messages.slice(0, known), null, request.left_out + 1)) : null,
    request.gone.length ? h("details", { class: "card block" }, h("summary", {}, `${several(missing, "message")} of the request before ${missing === 1 ? "is" : "are"} not in this one`), list(request.gone, "gone", request.common + 1)) : null,
    list(fresh, request.previous_messages ? "fresh" : null, request.common + 1),
  ];
}

function one(message, kind, n) {
  const calls = (message.tool_calls ?? []).map((call) => h("div", {}, h("p", { class: "line" }, h("code", {}, plain(call.name))), passage(call.arguments, null)));
  const mark = { fresh: badge("new"), gone: badge("gone") }[kind];
  return h("li", { class: `card ${kind ?? ""}`, "data-row": true, tabindex: "0" },
    h("p", { class: "line" }, h("span", {}, `${n}`), h("strong", {}, plain(message.role)), message.name ? h("span", {}, plain(message.name)) : null,
      message.tool_call_id ? h("code", {}, plain(message.tool_call_id)) : null, mark),
    message.content.chars ? passage(message.content, null, message.role === "tool" ? "passage" : "text") : null, calls);
}
