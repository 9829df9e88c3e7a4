// Drop a file, see it, read the report without leaving the page. Without this script the form works as it is.
"use strict";
(() => {
  const form = document.querySelector("form.drop");
  const input = document.getElementById("file");
  const preview = document.getElementById("preview");
  const status = document.getElementById("status");
  const report = document.getElementById("report");
  const shown = [];

  // Pictures that came with the report: they lie on no server, so they have no address of their own.
  function show() {
    while (shown.length) URL.revokeObjectURL(shown.pop());
    for (const image of report.querySelectorAll("img[data-webp]")) {
      const bytes = Uint8Array.from(atob(image.dataset.webp), (letter) => letter.charCodeAt(0));
      shown.push(URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
      image.src = shown[shown.length - 1];
      image.removeAttribute("data-webp");
    }
    for (const excuse of report.querySelectorAll(".without-script")) excuse.hidden = true;
  }

  async function check(file) {
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.alt = "The picture that you chose";
    preview.hidden = false;
    preview.onerror = () => { preview.hidden = true; };
    status.textContent = form.dataset.busy;
    report.replaceChildren();
    const body = new FormData(form);
    body.set("file", file);
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { "x-fragment": "1" } });
      const text = await answer.text();
      const parsed = new DOMParser().parseFromString(text, "text/html");
      const part = parsed.querySelector(answer.ok ? ".report" : "[role=alert]");
      report.replaceChildren(part || document.createTextNode("The service gave no answer."));
      show();
      status.textContent = "";
      const verdict = document.getElementById("verdict");
      if (verdict) verdict.focus();
    } catch {
      status.textContent = "The service cannot be reached.";
    }
  }

  show();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.files.length) check(input.files[0]);
  });
  input.addEventListener("change", () => { if (input.files.length) check(input.files[0]); });
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files.length) check(event.dataTransfer.files[0]);
  });
})();
