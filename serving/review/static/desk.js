/* The desk's keys and small comforts. Every page works without; nothing here makes markup out of text. */
(() => {
  "use strict";
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const opened = performance.now();
  let away = 0, left = null; // time that the page was not looked at

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) left = performance.now();
    else if (left !== null) { away += performance.now() - left; left = null; }
  });

  /* Times in the reader's own zone */
  const today = new Date().toDateString();
  function localise(within) {
    for (const time of all("time[datetime]", within)) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.valueOf()) || time.title) continue;
      time.title = time.textContent;
      const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      time.textContent = at.toDateString() === today ? clock : `${at.toLocaleDateString([], { day: "numeric", month: "short" })} ${clock}`;
    }
  }

  /* The list */
  const links = () => all(".row .into");
  function step(by) {
    const found = links(), here = found.indexOf(document.activeElement);
    const next = found[Math.min(Math.max(here < 0 ? (by > 0 ? 0 : found.length - 1) : here + by, 0), found.length - 1)];
    if (next) { next.focus(); next.closest(".row").scrollIntoView({ block: "nearest" }); }
  }
  function busy() {
    const rows = one("#rows");
    return rows !== null && (rows.contains(document.activeElement) || rows.matches(":hover") || scrollY > 200);
  }

  /* The conversation */
  const turns = () => all(".turn.customer");
  let here = null, head = 0;
  function go(turn) {
    if (!turn) return;
    if (here) here.classList.remove("here");
    here = turn; head = 0;
    turn.classList.add("here");
    turn.focus({ preventScroll: true });
    turn.scrollIntoView({ block: "nearest" });
    show();
  }
  function move(by) {
    const found = turns(), at = found.indexOf(here);
    go(found[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : found.length - 1) : at + by, 0), found.length - 1)]);
  }
  function press(input) {
    if (!input) return false;
    input.checked = input.type === "checkbox" ? !input.checked : true;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }
  const verdict = (value, turn = here) => turn && press(one(`input[name^="verdict-"][value="${value}"]`, turn));
  const heads = () => (here ? all(".head", here) : []);
  function show() {
    const found = heads();
    found.forEach((each, place) => each.classList.toggle("current", place === head));
    tell(found[head]);
  }
  /* The rule of the value that is chosen, where it is chosen; the rules themselves stand at the side. */
  function tell(field, input = field && one("input:checked", field)) {
    const output = field && one(".rule", field.closest(".heads"));
    if (!output) return;
    output.replaceChildren();
    const name = field.dataset.head, rule = input && all("[data-rule]").find((each) => each.dataset.rule === `${name}-${input.value}`);
    if (!rule) return;
    const bold = document.createElement("b");
    bold.textContent = `${input.nextElementSibling.firstChild.textContent.trim()}: `;
    output.append(bold, rule.textContent);
  }
  function set(number) {
    if (!here) move(1);
    if (!here) return;
    const correct = one('input[name^="verdict-"][value="correct"]', here);
    if (!correct.checked) { press(correct); head = 0; }
    const field = heads()[head], input = field && all("input", field)[number - 1];
    if (!press(input)) return;
    if (input.type === "radio" && head < heads().length - 1) head += 1;
    show();
    tell(field, input);
  }
  function take(button) {
    const turn = button.closest(".turn"), labels = JSON.parse(button.dataset.labels);
    verdict("correct", turn);
    for (const field of all(".head", turn)) {
      const given = [labels[field.dataset.head]].flat().map(String);
      for (const input of all("input", field)) input.checked = given.includes(input.value);
    }
    if (turn === here) show();
    tally();
  }
  function tally() {
    const place = one("#tally");
    if (!place) return;
    const all_ = turns().length, given = all('.judge input[name^="verdict-"]:checked').filter((each) => each.value).length;
    place.textContent = `${given} of ${all_} turns judged`;
  }

  /* Keys */
  const go_to = { l: "/review/conversations?review=open", q: "/review/quality", t: "/review/team" };
  let after_g = false;
  const on_list = {
    j: () => step(1), k: () => step(-1), o: () => document.activeElement.matches(".into") && document.activeElement.click(),
    r: () => refresh(), "/": () => { one(".filters").open = true; one("#search").focus(); },
  };
  const on_conversation = {
    j: () => move(1), k: () => move(-1), a: () => verdict("agree"), c: () => { if (!here) move(1); verdict("correct"); show(); }, 0: () => verdict(""), w: () => verdict("withdraw"),
    A: () => one("#agree-all")?.click(), n: () => one("#note").focus(), u: () => one("#back").click(),
    e: () => here && one(".why", here)?.click(), "[": () => here && all(".take", here)[0]?.click(), "]": () => here && all(".take", here)[1]?.click(), ArrowRight: () => turn_head(1), ArrowLeft: () => turn_head(-1),
  };
  function turn_head(by) { head = Math.min(Math.max(head + by, 0), Math.max(heads().length - 1, 0)); show(); }
  function tell_moved(text) { one("#moved").textContent = text; one("#refresh").hidden = text === ""; }
  function refresh() { tell_moved(""); const rows = one("#rows"); if (rows) { document.activeElement.blur(); forced = true; htmx.trigger(rows, "refresh"); } }
  let forced = false;

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches('input:not([type="radio"], [type="checkbox"]), textarea, select');
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && one("#save")) { event.preventDefault(); one("#save").click(); return; }
    if (event.key === "Escape" && typing) { event.target.blur(); if (here) here.focus({ preventScroll: true }); return; }
    if (typing || event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
    if (event.key.startsWith("Arrow") && event.target.matches("input")) return; // radios have arrows of their own
    let done = null;
    if (after_g && go_to[event.key]) done = () => { location.href = go_to[event.key]; };
    else if (event.key === "?") done = () => one("#keys")?.showModal();
    else if (document.body.classList.contains("list")) {
      const tab = one(`[data-key="${CSS.escape(event.key)}"]`);
      done = tab ? () => tab.click() : on_list[event.key];
    } else if (document.body.classList.contains("one")) {
      const pressed = one(`[data-press="${CSS.escape(event.key)}"]`);
      done = pressed ? () => press(pressed) : /^[1-6]$/.test(event.key) ? () => set(Number(event.key)) : on_conversation[event.key];
    }
    after_g = event.key === "g";
    if (done) { event.preventDefault(); done(); }
  });

  /* What is pressed and changed */
  document.addEventListener("click", (event) => {
    if (event.target.closest("#show-keys")) one("#keys").showModal();
    if (event.target.closest("#print")) print();
    if (event.target.closest("#refresh")) refresh();
    const to = event.target.closest("[data-to]"), taken = event.target.closest(".take");
    if (to) go(document.getElementById(to.dataset.to));
    if (taken) take(taken);
    if (event.target.closest("#agree-all")) for (const turn of turns()) if (one('input[name^="verdict-"]:checked', turn)?.value === "") verdict("agree", turn);
    const turn = event.target.closest(".turn.customer");
    if (turn && turn !== here) { if (here) here.classList.remove("here"); here = turn; head = 0; turn.classList.add("here"); }
  });
  document.addEventListener("change", (event) => {
    const field = event.target.closest(".head");
    if (field && field.dataset.head) { head = Math.max(heads().indexOf(field), 0); if (here) show(); tell(field, event.target); }
    if (event.target.matches(".choose-head")) for (const moved of all(".moved", event.target.closest(".explained"))) moved.hidden = moved.dataset.head !== event.target.value;
    if (event.target.matches("#filter select")) event.target.form.requestSubmit();
    tally();
  });
  document.addEventListener("mouseover", (event) => {
    const label = event.target.closest(".head[data-head] label");
    if (label) tell(label.closest(".head"), one("input", label));
  });
  document.addEventListener("formdata", (event) => {
    if (event.target.id !== "filter") return;
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
  function fill_seconds() { const field = one("#seconds"); if (field) field.value = ((performance.now() - opened - away) / 1000).toFixed(1); }
  document.addEventListener("submit", fill_seconds, true);

  /* htmx: quiet while nobody looks, and no row moves under a hand */
  document.addEventListener("htmx:before:request", (event) => {
    if (event.target.id === "rows" && document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const target = event.detail?.ctx?.target;
    if (target?.id !== "rows") return;
    const failed = (event.detail.ctx.response?.status ?? 0) >= 402; // 401 is for the reader to see: the session ended
    if (failed || (busy() && !forced)) event.preventDefault();
    tell_moved(failed ? "The list could not be brought up to date; it is tried again." : event.defaultPrevented ? "The list has changed." : "");
  });
  document.addEventListener("htmx:finally:request", () => { forced = false; });
  document.addEventListener("htmx:after:swap", () => {
    localise(document);
    one("#outcome input:not([type='hidden'])")?.focus();
    one("#outcome")?.scrollIntoView({ block: "nearest" });
    const fresh = one("#outcome [data-csrf]"), mine = one('#verdict input[name="reviewer"]');
    if (fresh && mine && fresh.dataset.reviewer !== mine.value) location.reload(); // somebody else's page begins anew
    else if (fresh) for (const field of all('input[name="csrf"]')) field.value = fresh.dataset.csrf;
  });

  localise(document);
  tally();
  if (location.hash.startsWith("#turn-")) go(document.getElementById(location.hash.slice(1)));
  else go(one(".turn.disputed"));
})();
