// Reviews by keyboard. A picture stays covered until somebody uncovers it, and that is noted before it is shown.
"use strict";
(() => {
  const review = document.getElementById("review");
  const picture = document.getElementById("picture");
  const reveal = document.getElementById("reveal");
  const rows = Array.from(document.querySelectorAll("#queue tbody tr"));
  let chosen = -1;

  async function uncover() {
    if (!picture) return;
    if (!picture.classList.contains("covered")) {
      picture.classList.add("covered");
      reveal.setAttribute("aria-pressed", "false");
      return;
    }
    if (review) {
      const path = `/review/${review.dataset.id}/reveal`;
      const answer = await fetch(path, { method: "POST", headers: { "x-csrf": review.dataset.csrf } });
      if (!answer.ok) return;
    }
    picture.classList.remove("covered");
    reveal.setAttribute("aria-pressed", "true");
  }

  function choose(step) {
    if (!rows.length) return;
    if (chosen >= 0) rows[chosen].classList.remove("chosen");
    chosen = Math.min(rows.length - 1, Math.max(0, chosen + step));
    rows[chosen].classList.add("chosen");
    rows[chosen].querySelector("a").focus();
  }

  function go(id) { if (id) location.assign(`/review/${id}`); }
  function press(id) { const button = document.getElementById(id); if (button) button.click(); }

  if (reveal) reveal.addEventListener("click", uncover);
  addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const act = {
      j: () => (review ? go(review.dataset.next) : choose(1)),
      k: () => (review ? go(review.dataset.previous) : choose(-1)),
      v: uncover,
      c: () => press("claim"),
      a: () => press("release"),
      x: () => press("refuse"),
      r: () => { const reason = document.getElementById("reason"); if (reason) reason.focus(); },
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();
