// One session: its sends as a timeline, what stands beside it, and what happens while one looks.

import { ask, badge, bdi, count, duration, h, link, money, passage, plain, say, when } from "./dom.js";
import { chart } from "./charts.js";
import { beside } from "./beside.js";
import { follow } from "./live.js";

export async function sessionPage(query) {
  const id = query.get("id");
  const wanted = query.get("send");
  const [session, page, calls] = await Promise.all([ask("session", { id }), ask("timeline", { id, send: wanted }), ask("charts", { id })]);
  const sends = h("div", { class: "sends" }, page.sends.map((send) => sendView(id, send)));
  const older = olderButton(id, page.next, sends);
  const live = h("pre", { class: "live", hidden: true, "aria-label": "Text in hand" });
  const doctor = h("section", { class: "doctor" });
  const panel = h("aside", { "aria-label": "About this session" }, beside(session));
  const content = h("section", { class: "session" }, heading(session),
    h("div", { class: "columns" },
      h("div", {}, chart(calls, id), older, sends, page.sends.length ? null : h("p", { class: "dim" }, "Nothing was said yet."), live,
        page.last ? null : h("p", {}, h("a", { href: link("session", { id }) }, "to the latest send"))),
      h("div", {}, doctor, panel)));
  let stream = null;
  const shown = () => {
    examine(id, doctor);
    const target = wanted && document.getElementById(`send-${wanted}`);
    if (target) { target.open = true; target.scrollIntoView(); target.querySelector("summary").focus(); }
    if (page.last) stream = follow(id, page.head, { live, changed: () => refresh(id, sends, panel, doctor) });
  };
  return { title: id, content, shown, leave: () => stream?.close() };
}

function heading(session) {
  return h("div", {}, h("p", {}, h("a", { href: "#/", "data-up": true }, "all sessions")),
    h("h1", {}, bdi(session.session_id), " ", badge(session.outcome || "idle")),
    h("p", { class: "dim" }, plain(session.agent ?? ""), ` ${count(session.sends)} sends, ${count(session.rounds)} rounds, ${count(session.tool_calls)} tool calls, `,
      `${count(session.prompt_tokens)} + ${count(session.completion_tokens)} tokens`, session.cost ? `, cost ${money(session.cost)}` : ""));
}

function olderButton(id, next, sends) {
  const button = h("button", { type: "button", class: "more", hidden: next === null }, "Earlier sends");
  button.addEventListener("click", async () => {
    const page = await ask("timeline", { id, before: next });
    const views = page.sends.map((send) => sendView(id, send));
    sends.prepend(...views);
    views.at(-1)?.querySelector("summary").focus();
    next = page.next;
    button.hidden = next === null;
  });
  return button;
}

// It reads more than the page does, so it comes after it.
async function examine(id, place) {
  const { state, findings } = await ask("doctor", { id });
  const told = findings.map((found) => h("li", {}, badge(found.code.replaceAll("_", " "), "kind"), ` ${plain(found.text)} `, h("em", {}, plain(found.fix))));
  place.replaceChildren(h("h2", {}, "Doctor ", badge(state)), told.length ? h("ul", {}, told) : h("p", { class: "dim" }, "Nothing is the matter."));
}

// Replace what changed and leave open what is open.
async function refresh(id, sends, panel, doctor) {
  const [page, session] = await Promise.all([ask("timeline", { id }), ask("session", { id })]);
  for (const send of page.sends) {
    const there = document.getElementById(`send-${send.send}`);
    if (there && there.dataset.seq === String(send.through_seq)) continue;
    const view = sendView(id, send);
    if (there) { view.open = there.open; there.replaceWith(view); } else { view.open = true; sends.append(view); }
  }
  panel.replaceChildren(...beside(session));
  if (page.sends.at(-1)?.status !== "running") examine(id, doctor);
  say(`send ${page.sends.at(-1)?.send ?? 0}: ${page.sends.at(-1)?.status ?? ""}`);
}

function sendView(id, send) {
  const said = send.items.find((item) => item.kind === "user_said");
  const tokens = `${count(send.prompt_tokens)} + ${count(send.completion_tokens)} tokens`;
  const summary = h("summary", { "data-row": true }, h("span", { class: "nr" }, `#${send.send}`), badge(send.status),
    h("span", { class: "said" }, plain(said?.text.shown.slice(0, 160) ?? "")),
    h("span", { class: "dim numbers" }, [duration(send.took_ms), tokens, money(send.cost), send.failed_calls ? `${send.failed_calls} failed` : ""].filter(Boolean).join(" · ")));
  const view = h("details", { id: `send-${send.send}`, class: "send", "data-seq": send.through_seq }, summary);
  let filled = false;
  view.addEventListener("toggle", () => { if (view.open && !filled) { filled = true; view.append(body(id, send)); } });
  return view;
}

function body(id, send) {
  const longest = Math.max(1, ...send.items.flatMap((item) => [item.took_ms ?? 0, ...(item.calls ?? []).map((call) => call.took_ms ?? 0)]));
  const facts = h("p", { class: "dim" }, when(send.at), " ", h("a", { href: link("session", { id, send: send.send }) }, "permalink"),
    send.key ? [" key ", h("code", {}, plain(send.key))] : null, send.reason ? ` ${plain(send.reason)}` : "",
    send.error ? h("strong", { class: "bad" }, ` ${plain(send.error.code)}: ${plain(send.error.message)}`) : null);
  return h("div", { class: "items" }, facts, send.items.map((item) => itemView(id, item, longest)));
}

const whole = (id, seq) => async () => {
  const record = await ask("record", { id, seq });
  return record.cells.content ?? record.cells.body ?? "";
};

function bar(took, longest) {
  if (!took) return null;
  const meter = h("meter", { min: 0, max: longest, value: took, "aria-label": `${duration(took)}` });
  return h("span", { class: "took" }, meter, ` ${duration(took)}`);
}

function itemView(id, item, longest) {
  if (item.kind === "model_replied") return replyView(id, item, longest);
  if (item.calls) return h("div", { class: "item" }, item.calls.map((call) => callView(id, call, longest)));
  const head = [badge(item.kind.replaceAll("_", " "), item.kind), item.name ? ` ${plain(item.name)}` : "", ` `, h("span", { class: "dim" }, `seq ${item.seq}`)];
  if (item.kind === "user_said") return h("div", { class: "item user" }, h("p", {}, head), passage(item.text, whole(id, item.seq)));
  if (item.kind === "context_folded") {
    const covers = ` covers sends 1 to ${item.through_send}: ${count(item.before_tokens)} to ${count(item.after_tokens)} tokens`;
    return h("details", { class: "item fold" }, h("summary", {}, head, covers), passage(item.text, whole(id, item.seq)));
  }
  const rest = item.reason ?? item.note ?? item.error?.message ?? item.error ?? (item.fields ? JSON.stringify(item.fields) : item.status ?? "");
  const usage = item.usage ? ` ${plain(item.purpose)}: ${count(item.usage.prompt)} + ${count(item.usage.completion)} tokens${item.usage.estimated ? " (estimated)" : ""}` : "";
  return h("div", { class: "item" }, h("p", {}, head, usage, " ", plain(rest)));
}

function replyView(id, item, longest) {
  const used = item.usage;
  const cached = used.cache_read ? `, ${count(used.cache_read)} cached` : "";
  const facts = [`round ${item.round ?? ""}`, plain(item.model ?? ""), `${count(used.prompt)}${cached} + ${count(used.completion)} tokens${used.estimated ? " (estimated)" : ""}`,
    money(used.cost), item.finish_reason].filter(Boolean).join(" · ");
  return h("div", { class: "item model" },
    h("p", {}, badge(item.purpose === "round" ? "model" : item.purpose, "model"), h("span", { class: "dim" }, ` ${facts} `), bar(item.took_ms, longest),
      " ", h("a", { href: link("request", { id, seq: item.seq }) }, "request"), h("span", { class: "dim" }, ` seq ${item.seq}`)),
    item.think.chars ? h("details", {}, h("summary", {}, "reasoning"), passage(item.think, null)) : null,
    item.text.chars ? passage(item.text, whole(id, item.seq)) : null,
    item.calls.map((call) => callView(id, call, longest)));
}

function callView(id, call, longest) {
  const decided = call.decided ? `${call.decided.approved ? "approved" : "denied"}${call.decided.by ? ` by ${call.decided.by}` : ""}${call.decided.note ? `: ${call.decided.note}` : ""}` : "";
  const facts = [call.began_at ? "begun (runs at most once)" : "", call.ran === false ? "no handler ran" : "", decided, call.asked ? `asked: ${call.asked.prompt ?? call.asked.kind}` : ""];
  const summary = h("summary", {}, badge(call.outcome), h("code", {}, plain(call.name ?? call.id)), " ", bar(call.took_ms, longest),
    h("span", { class: "dim" }, plain(` ${(call.arguments?.shown ?? "").slice(0, 120)}`)));
  return h("details", { class: "call" }, summary, h("p", { class: "dim" }, h("code", {}, plain(call.id)), plain(` ${facts.filter(Boolean).join(" - ")}`)),
    call.arguments ? passage(call.arguments, null) : null,
    call.rewritten ? [h("p", {}, `a hook made it ${plain(call.rewritten.name)}`), passage(call.rewritten.arguments, null)] : null,
    call.output ? passage(call.output, whole(id, call.result_seq)) : h("p", { class: "dim" }, "no result yet"));
}
