"use strict";
// Labels are untrusted: text is set only through textContent, and the Content-Security-Policy forbids
// other ways.

const $ = (id) => document.getElementById(id);
const viewer = Math.random().toString(36).slice(2); // identifies this viewer; not a secret
const RETRY_MS = [500, 1000, 2000, 3000];
const OLD_S = 2;

let picture = 0; // the number of the picture that is shown
let region = "";
let limits = null;
let lastNewsMs = 0; // when the device last answered; 0: never
let lastSkipped = 0;
let skippedMs = -Infinity;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const visible = () => document.hidden
  ? new Promise((done) => document.addEventListener("visibilitychange", done, { once: true })).then(visible)
  : Promise.resolve();

function seconds(s) {
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}
const moment = (date) => (date.toDateString() === new Date().toDateString()
  ? date.toLocaleTimeString() : date.toLocaleString());
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toString());
const spread = (p) => (p === null ? "–" : `${milliseconds(p.p50)} ms (99 %: ${milliseconds(p.p99)})`);

function setStatus(kind, text) {
  const pill = $("status");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${kind}`;
}

function stale(text) {
  $("stale").hidden = text === "";
  if ($("stale").textContent !== text) $("stale").textContent = text;
  $("stage").classList.toggle("old", text !== "");
}

function bars(list, topk) {
  while (list.children.length > topk.length) list.lastChild.remove();
  while (list.children.length < topk.length) {
    const item = document.createElement("li");
    for (const name of ["bar", "name", "share"]) {
      const part = document.createElement("span");
      part.className = name;
      item.append(part);
    }
    item.firstChild.setAttribute("aria-hidden", "true");
    list.append(item);
  }
  topk.forEach(({ label, score }, i) => {
    const [bar, name, share] = list.children[i].children;
    bar.style.width = `${Math.min(100, Math.max(0, 100 * score))}%`;
    name.textContent = label;
    share.textContent = percent(score);
  });
}

function answer(prefix, result) {
  const label = $(`${prefix}label`);
  label.textContent = result.label === null ? "unknown" : result.label;
  label.classList.toggle("unknown", result.label === null);
  $(`${prefix}score`).textContent = percent(result.score);
  bars($(`${prefix}ranking`), result.topk);
}

function happened(records) {
  $("nothing").hidden = records.length > 0;
  $("log").replaceChildren(...records.map((record) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.dateTime = record.ts;
    time.textContent = moment(new Date(record.ts));
    const what = document.createElement("strong");
    const rest = document.createElement("span");
    item.className = record.type;
    if (record.type === "health") {
      what.textContent = record.what;
      rest.textContent = record.detail;
    } else {
      what.textContent = record.label;
      const where = record.region ? `in ${record.region} ` : "";
      rest.textContent = where + (record.what === "left" ? `left after ${record.seconds.toFixed(1)} s` : record.what);
    }
    item.append(time, what, " ", rest);
    return item;
  }));
}

function regions(names) {
  const select = $("region");
  $("region-row").hidden = names.length < 2;
  if (names.join("\n") === [...select.options].map((o) => o.value).join("\n")) return;
  select.replaceChildren(...names.map((name) => new Option(name || "whole frame", name)));
  if (!names.includes(region)) region = names[0] ?? "";
  select.value = region;
}

function figures(state) {
  const now = state.statistics;
  $("fps").textContent = now.fps < 10 ? now.fps.toFixed(1) : Math.round(now.fps).toString();
  $("latency").textContent = spread(now.latency_ms);
  $("age").textContent = spread(now.age_ms);
  $("frames").textContent = now.frames.toLocaleString() + (now.unreadable ? `, ${now.unreadable} unreadable` : "");
  $("dropped").textContent = now.dropped.toLocaleString() + (now.skipped ? `, ${now.skipped.toLocaleString()} skipped` : "");
  $("seconds").textContent = seconds(now.seconds);
  if (now.skipped !== lastSkipped) skippedMs = performance.now();
  lastSkipped = now.skipped;
}

function health(state) {
  if (state.ended) {
    setStatus("bad", "ended");
    return stale("The run has ended; waiting for the next run.");
  }
  if (state.idle_s <= OLD_S) {
    setStatus("good", "live");
    return stale("");
  }
  if (performance.now() - skippedMs < 5000) { // the motion gate, or every N-th frame
    setStatus("good", "live, nothing to classify");
    return stale(`No frame was classified for ${seconds(state.idle_s)}; frames are skipped.`);
  }
  setStatus("warn", `no frames for ${seconds(state.idle_s)}`);
  stale(`No frames for ${seconds(state.idle_s)}.`);
}

async function draw(jpeg) {
  const image = $("picture");
  const before = image.src;
  image.src = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
  await image.decode().catch(() => undefined); // a slow browser requests the next picture later
  if (before) URL.revokeObjectURL(before);
  image.hidden = false;
  $("no-picture").hidden = true;
}

async function show(state, jpeg) {
  $("device").textContent = state.device;
  $("version").textContent = state.version;
  limits = state.uploads;
  $("try").hidden = limits === null;
  regions(state.regions);
  if (state.fresh) await draw(jpeg);
  picture = state.picture;
  if (state.answer) {
    answer("", state.answer);
    $("model").textContent = state.answer.model;
    document.title = `${state.answer.label ?? "unknown"} – ${state.device}`;
  }
  figures(state);
  happened(state.happened);
  health(state);
}

async function explain(reply) {
  try {
    return (await reply.json()).error || `The device answers with status ${reply.status}.`;
  } catch {
    return `The device answers with status ${reply.status}.`;
  }
}

async function look() {
  const query = new URLSearchParams({ viewer, region, after: picture });
  const reply = await fetch(`live?${query}`, { cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (reply.status === 401) return "token";
  if (!reply.ok) {
    setStatus("bad", await explain(reply));
    return "later";
  }
  const body = await reply.arrayBuffer();
  const length = new DataView(body).getUint32(0);
  const state = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  lastNewsMs = performance.now();
  $("room").hidden = false;
  await show(state, new Uint8Array(body, 4 + length));
  return state.ended ? "later" : "again";
}

async function follow() {
  for (let failures = 0; ;) {
    await visible();
    try {
      const next = await look();
      failures = 0;
      if (next === "token") await entrance();
      if (next === "later") await pause(2000);
    } catch {
      const since = lastNewsMs ? `, for ${seconds((performance.now() - lastNewsMs) / 1000)}` : "";
      if ($("status").textContent !== "ended") {
        setStatus("bad", `no connection${since}`);
        stale(`The device does not answer${since}; retrying.`);
      }
      await pause(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]);
    }
  }
}

// The token: from #token=… in the URL, or typed.

async function present(token) {
  const reply = await fetch("token", { method: "POST", body: token });
  if (reply.ok) return true;
  $("token-error").textContent = await explain(reply);
  return false;
}

async function entrance() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) {
    history.replaceState(null, "", location.pathname); // removes the token from the address bar
    if (await present(given)) return;
  }
  setStatus("", "token required");
  $("room").hidden = true;
  $("entrance").hidden = false;
  $("token").focus();
  await new Promise((done) => {
    $("token-form").onsubmit = async (event) => {
      event.preventDefault();
      $("token-error").textContent = "";
      try {
        if (await present($("token").value.trim())) done();
      } catch {
        $("token-error").textContent = "The device does not answer.";
      }
    };
  });
  $("token").value = "";
  $("entrance").hidden = true;
}

// A picture to try

function fail(text) {
  $("tried-error").textContent = text;
}

async function attempt(file) {
  if (!file || limits === null || $("choose").disabled) return;
  const image = $("tried-picture");
  if (image.src) URL.revokeObjectURL(image.src);
  image.hidden = false;
  image.onerror = () => { image.hidden = true; }; // not a picture, or a format that only the device reads
  image.src = URL.createObjectURL(file);
  $("tried").hidden = false;
  for (const id of ["tried-label", "tried-score", "tried-error", "tried-about"]) $(id).textContent = "";
  bars($("tried-ranking"), []);
  if (file.size > limits.bytes) return fail(`This file has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${limits.bytes / 1e6} MB.`);
  $("choose").disabled = $("shoot").disabled = true;
  $("tried-about").textContent = "Classifying …";
  try {
    const reply = await fetch("try", { method: "POST", body: file, signal: AbortSignal.timeout(90000) });
    $("tried-about").textContent = "";
    if (!reply.ok) return fail(await explain(reply));
    const result = await reply.json();
    answer("tried-", result);
    $("tried-about").textContent = `${result.width} × ${result.height} pixels, ${milliseconds(result.latency_ms.inference)} ms in ${result.model}`;
  } catch {
    $("tried-about").textContent = "";
    fail("The device did not answer; try again.");
  } finally {
    $("choose").disabled = $("shoot").disabled = false;
  }
}

$("shoot").hidden = navigator.maxTouchPoints === 0;
$("choose").onclick = () => $("file").click();
$("shoot").onclick = () => $("camera").click();
for (const id of ["file", "camera"]) {
  $(id).onchange = async (event) => {
    await attempt(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  };
}
$("region").onchange = (event) => { region = event.target.value; picture = 0; };
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const file = event.dataTransfer.files[0];
  if (file) attempt(file);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((f) => f.type.startsWith("image/"));
  if (file) attempt(file);
});

follow();
