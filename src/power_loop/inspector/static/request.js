// The request behind one reply, and where it parts from the one before.

import { ask, badge, count, h, link, passage, plain } from "./dom.js";

export async function requestPage(query) {
  const id = query.get("id");
  const seq = Number(query.get("seq"));
  const request = await ask("request", { id, seq });
  const up = h("a", { href: link("session", { id, send: request.send }), "data-up": true }, "back to the timeline");
  const grown = request.previous_messages > 0;
  const kept = grown && request.common === request.previous_messages;
  const prefix = !grown ? "the first request that is known" : kept
    ? `begins with all ${count(request.previous_messages)} messages of the one before: a cache may serve them`
    : `parts from the one before at message ${request.common + 1} of ${count(request.previous_messages)}: caches end there`;
  const content = h("section", {}, h("p", {}, up), h("h1", {}, `Request behind reply ${seq}`),
    h("dl", { class: "facts" },
      h("dt", {}, "Send, round"), h("dd", {}, `${request.send}, ${request.round}`),
      h("dt", {}, "Digest of the whole request"), h("dd", {}, h("code", {}, plain(request.digest ?? "none"))),
      h("dt", {}, "Prefix"), h("dd", {}, badge(kept || !grown ? "stable" : "changed", kept || !grown ? "completed" : "failed"), ` ${prefix}`),
      h("dt", {}, "Size"), h("dd", {}, `${count(request.usage.prompt)} tokens${request.usage.estimated ? " (estimated)" : ""}, ${count(request.usage.cache_read)} from a cache; ${count(request.left_out + request.messages.length)} messages`),
      request.previous_seq ? [h("dt", {}, "Before it"), h("dd", {}, h("a", { href: link("request", { id, seq: request.previous_seq }) }, `request of reply ${request.previous_seq}`))] : []),
    h("p", { class: "dim" }, request.sent ? "As it was sent: this loop keeps its requests."
      : "Derived from the records. Memory, todos and what hooks changed are stored nowhere; only the digest knows of them."),
    request.sent ? h("dl", { class: "facts" }, Object.entries(request.sent).map(([name, text]) =>
      [h("dt", {}, name), h("dd", {}, h("pre", { class: "passage" }, plain(text)))])) : null,
    request.left_out ? h("p", { class: "dim" }, `The first ${count(request.left_out)} messages are left out here.`) : null,
    h("ol", { class: "messages", start: request.left_out + 1 }, request.messages.map((message, n) => shown(message, n + request.left_out, request, grown))));
  return { title: `Request ${seq}`, content };
}

function shown(message, n, request, grown) {
  const fresh = grown && n >= request.common;
  const calls = (message.tool_calls ?? []).map((call) => h("pre", { class: "passage" }, plain(`${call.function.name}(${call.function.arguments})`)));
  return h("li", { class: fresh ? "fresh" : null, "data-row": true, tabindex: "0" },
    h("p", {}, badge(message.role), message.name ? ` ${plain(message.name)}` : "", message.tool_call_id ? h("code", {}, ` ${plain(message.tool_call_id)}`) : null,
      fresh ? badge("new", "kind") : null),
    message.content.chars ? passage(message.content, null) : null, calls);
}
