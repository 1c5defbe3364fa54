"use strict";
// Asks for this page again and again, and puts in the parts that changed. Nothing of it is ever run.
const PAUSE_MS = 2000;
let version = "";

function take(next) {
  document.title = next.title;
  for (const id of ["head", "stages", "log", "scores", "curves", "rollouts"]) {
    const [old, fresh] = [document.getElementById(id), next.getElementById(id)];
    if (!old || !fresh || old.innerHTML === fresh.innerHTML) continue;
    const open = [...old.querySelectorAll("details")].map((node) => node.open);
    if ("keepsOpen" in old.dataset && open.includes(true)) continue;
    const scrolled = [...old.querySelectorAll(".scroll")].map((node) => node.scrollLeft);
    old.replaceChildren(...document.importNode(fresh, true).childNodes);
    old.querySelectorAll("details").forEach((node, place) => (node.open = open[place] ?? false));
    old.querySelectorAll(".scroll").forEach((node, place) => (node.scrollLeft = scrolled[place] ?? 0));
  }
}

async function ask() {
  const lost = document.getElementById("lost");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const found = answer.headers.get("etag") ?? "";
    if (answer.ok && (found === "" || found !== version)) {
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      version = found;
    }
    lost.textContent = answer.ok ? "" : "This page cannot be refreshed: see what exaone watch prints.";
  } catch {
    lost.textContent = "exaone watch has ended, or cannot be reached: this page shows its last state.";
  }
  document.documentElement.dataset.asked = Number(document.documentElement.dataset.asked ?? 0) + 1;
  setTimeout(ask, PAUSE_MS);
}

setTimeout(ask, PAUSE_MS);
