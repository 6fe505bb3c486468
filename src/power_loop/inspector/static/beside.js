// What stands beside the timeline: why a session waits, who it waits for, and what belongs to it.

import { badge, bdi, count, h, link, plain, say, tell, when } from "./dom.js";

export function beside(session) {
  return [
    part("Waits for", session.waiting.map((asked) => question(session, asked))),
    part("Family", session.tree.length > 1 ? session.tree.map((one) => member(session, one)) : []),
    part("Inbox", session.inbox.map((item) => h("li", {}, badge(item.mode ?? "queue", "kind"), ` ${plain(item.record.kind)} `, bdi(item.record.text)))),
    part("Timers", session.timers.map((timer) => h("li", {}, when(timer.due_at), ` ${plain(timer.note)}`, timer.interval_s ? ` every ${timer.interval_s} s` : ""))),
    part("Jobs", session.jobs.map((job) => h("li", {}, badge(job[4]?.toString() ?? job.status), " ", h("code", {}, plain(job.command ?? job[3]))))),
    part("Notes", session.notes.map((note) => h("li", {}, note.pinned ? badge("pinned", "kind") : "", ` ${plain(note.content)}`))),
    facts(session),
    session.prompt ? h("details", {}, h("summary", {}, "Own system prompt"), h("pre", { class: "passage" }, plain(session.prompt))) : null,
  ].filter(Boolean);
}

function part(title, lines) {
  return lines.length ? h("section", {}, h("h2", {}, title), h("ul", {}, lines)) : null;
}

function member(session, one) {
  const here = one.session_id === session.session_id;
  const name = here ? h("strong", {}, bdi(one.session_id)) : h("a", { href: link("session", { id: one.session_id }) }, bdi(one.session_id));
  return h("li", { class: one.parent ? "child" : null, "aria-current": here ? "true" : null }, name, " ", badge(one.kind, "kind"), one.lifecycle ? ` ${plain(one.lifecycle)}` : "");
}

function facts(session) {
  const rows = [["Kind", session.kind], ["Records", count(session.head)], ["Created", when(session.created_at)], ["Changed", when(session.updated_at)],
    ["Holder", session.holder ?? "nobody"], ["Takeovers without progress", session.takeovers], ...Object.entries(session.metadata)];
  const shown = (value) => (value instanceof Node ? value : plain(typeof value === "object" ? JSON.stringify(value) : value));
  return h("section", {}, h("h2", {}, "Facts"), h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, plain(name)), h("dd", {}, shown(value))])));
}

function question(session, asked) {
  const text = [badge(asked.kind, "kind"), " ", h("code", {}, plain(asked.tool_name ?? "")), " ", plain(asked.prompt ?? ""),
    asked.arguments ? h("pre", { class: "passage" }, plain(JSON.stringify(asked.arguments, null, 2))) : null];
  return h("li", {}, text, session.actions ? answerForm(session, asked) : null);
}

function answerForm(session, asked) {
  const about = { session_id: session.session_id, interaction_id: asked.interaction_id };
  const done = async (data, told) => {
    try { await tell({ ...about, ...data }); say(told); form.replaceChildren(h("p", {}, `${told}. Whoever drives the session next goes on with it.`)); }
    catch (error) { say(error.message); form.append(h("p", { class: "bad" }, plain(error.message))); }
  };
  const form = h("form", { class: "answer", onsubmit: (event) => event.preventDefault() });
  if (asked.kind === "approval") {
    const note = h("input", { name: "note", "aria-label": "Note", placeholder: "note" });
    const decide = (approved) => () => done({ approved, digest: asked.digest ?? asked.metadata?.digest, note: note.value }, approved ? "Approved" : "Denied");
    form.append(note, h("button", { type: "button", onclick: decide(true) }, "Approve"), h("button", { type: "button", onclick: decide(false) }, "Deny"));
  } else if (asked.options?.length) {
    form.append(...asked.options.map((option) => h("button", { type: "button", onclick: () => done({ answer: option.id }, "Answered") }, plain(option.label ?? option.id))));
  } else {
    const answer = h("input", { name: "answer", "aria-label": "Answer", required: true });
    form.append(answer, h("button", { type: "button", onclick: () => done({ answer: answer.value }, "Answered") }, "Answer"));
  }
  return form;
}
