// SPDX-License-Identifier: Apache-2.0
// What the console gains from JavaScript; without it every page works all the same.
"use strict";

const SECONDS = 5;

// A one-time code in the fragment of a link: no browser sends it, so it is put into the form here, and out of the bar.
// Whoever is signed in already is led on, and browsers carry a fragment along: it goes there too.
const code = document.querySelector("input[name=code]");
const given = location.hash.slice(1);
if (/^[A-Za-z2-7]{4}(-?[A-Za-z2-7]{4}){7}$/.test(given)) {
  history.replaceState(null, "", location.pathname + location.search);
  if (code) {
    code.value = given;
    code.form.querySelector("button").focus();
  }
}

// Parts of a page that follow the domain: fetched again every few seconds, unless the reader said no or is busy there.
const toggle = document.querySelector("[data-live-toggle]");
const parts = () => document.querySelectorAll("[data-live]");
if (toggle && parts().length) {
  let on = sessionStorage.getItem("weir-live") !== "off";
  const show = () => {
    toggle.setAttribute("aria-pressed", String(on));
    toggle.textContent = on ? toggle.dataset.on : toggle.dataset.off;
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    on = !on;
    sessionStorage.setItem("weir-live", on ? "on" : "off");
    show();
  });
  show();
  const refresh = async () => {
    if (!on || document.hidden) return;
    const reply = await fetch(location.href, { headers: { "x-weir-live": "1" }, redirect: "manual" }).catch(() => null);
    if (!reply || !reply.ok) return;
    const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
    for (const part of parts()) {
      const next = fresh.getElementById(part.id);
      const busy = part.contains(document.activeElement) || part.querySelector("details[open]");
      if (next && !busy && next.innerHTML !== part.innerHTML) part.replaceChildren(...next.childNodes);
    }
  };
  setInterval(refresh, SECONDS * 1000);
}

// Selects that choose a view send themselves; their button stays for everybody else.
for (const select of document.querySelectorAll("select[data-send]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
