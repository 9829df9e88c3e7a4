// Ask what the policy says while somebody types, mark the words, then make the picture and watch its job.
"use strict";
(() => {
  const form = document.getElementById("playground");
  const prompt = document.getElementById("prompt");
  const marks = document.getElementById("marks");
  const status = document.getElementById("status");
  const explanation = document.getElementById("explanation");
  const result = document.getElementById("result");
  let asked = 0;
  let timer = 0;

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  async function post(path, fields) {
    const headers = { "x-csrf": form.dataset.csrf };
    const answer = await fetch(path, { method: "POST", body: new URLSearchParams(fields), headers });
    return { ok: answer.ok, body: await answer.json() };
  }

  // Spans count code points; a string in JavaScript counts code units.
  function mark(findings) {
    const letters = Array.from(prompt.value);
    const strength = ["allow", "flag", "rewrite", "review", "block"];
    const of = new Array(letters.length).fill("");
    for (const finding of findings) {
      for (const span of finding.spans) {
        // What speaks of the whole prompt would hide the words that others found.
        if (span.start === 0 && span.end >= letters.length) continue;
        for (let at = span.start; at < Math.min(span.end, letters.length); at++) {
          if (strength.indexOf(finding.action) > strength.indexOf(of[at])) of[at] = finding.action;
        }
      }
    }
    marks.replaceChildren();
    for (let at = 0; at < letters.length;) {
      let end = at;
      while (end < letters.length && of[end] === of[at]) end++;
      const text = letters.slice(at, end).join("");
      marks.append(of[at] ? element("mark", text, of[at]) : text);
      at = end;
    }
    marks.append("\n");
  }

  function tell(said) {
    explanation.replaceChildren();
    if (!said.action) return;
    const tone = { allow: "good", flag: "unsure", rewrite: "unsure", review: "bad", block: "bad" }[said.action];
    explanation.append(element("h2", said.action, `verdict ${tone}`), element("p", `decided in ${said.milliseconds} ms`, "small"));
    for (const finding of said.findings) {
      const card = element("div", undefined, "card");
      const name = `${finding.rule} · ${finding.category} · ${finding.action}${finding.shadow ? " (shadow)" : ""}`;
      card.append(element("h3", name), element("p", finding.message));
      if (finding.score !== null) {
        const meter = element("meter");
        meter.min = 0; meter.max = 1; meter.value = finding.score; meter.high = finding.threshold || 1;
        meter.setAttribute("aria-label", `score of ${finding.rule}`);
        card.append(meter, element("p", `score ${finding.score.toFixed(3)}, speaks from ${finding.threshold}; ${finding.error_rate}`, "small"));
      }
      explanation.append(card);
    }
    if (said.rewritten) explanation.append(element("p", `Drawn as: ${said.rewritten}`));
    for (const near of said.near_misses) {
      explanation.append(element("p", `${near.rule} almost spoke: ${near.why}`, "small"));
    }
  }

  async function explain() {
    const mine = ++asked;
    try {
      const { ok, body } = await post("/playground/explain", { prompt: prompt.value, policy: form.policy.value });
      if (mine !== asked) return;
      mark(ok ? body.findings : []);
      if (ok) tell(body); else explanation.replaceChildren(element("p", body.error, "note bad"));
    } catch {
      status.textContent = "The service cannot be reached.";
    }
  }

  async function watch(job) {
    for (;;) {
      const answer = await fetch(`/playground/jobs/${job}`);
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.error);
      status.textContent = `${body.status}: ${body.stage.replace("_", " ")}`;
      if (!["queued", "running"].includes(body.status)) return body;
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
  }

  async function generate() {
    result.replaceChildren();
    const { ok, body } = await post("/playground/generate", new FormData(form));
    if (!ok) { status.textContent = body.error; return; }
    const job = await watch(body.job);
    if (job.error) { result.append(element("p", job.error.message, "note bad")); return; }
    for (const item of job.result.data) {
      const image = element("img");
      image.src = item.url;
      image.alt = "The released picture";
      const told = item.guardrails;
      const list = element("dl", undefined, "facts");
      for (const [name, value] of [["Record", told.record_id], ["Manifest", told.c2pa], ["Watermark", told.watermark_id],
        ["Policy", told.policy], ["Seed", String(told.seed)], ["Checks", told.checks.map((c) => `${c.id}: ${c.verdict}`).join(", ")]]) {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", value));
        list.append(pair);
      }
      result.append(image, list);
    }
  }

  prompt.addEventListener("input", () => { mark([]); clearTimeout(timer); timer = setTimeout(explain, 200); });
  prompt.addEventListener("scroll", () => { marks.scrollTop = prompt.scrollTop; });
  form.policy.addEventListener("change", explain);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate().catch((error) => { status.textContent = error.message; });
  });
})();
