// The page: sessions as tabs, one WebSocket to the session on show, questions in, answers and pictures out.
"use strict";

const $ = (id) => document.getElementById(id);
const page = { room: null, socket: null, rooms: [], limits: null, timeline: null, asOf: null, retry: 0, waiting: new Map(), next: 1, film: null };

function make(tag, words, kind) {
  const node = document.createElement(tag);
  if (words !== undefined) node.textContent = words;
  if (kind) node.className = kind;
  return node;
}

const seconds = (t) => (t === null ? "the start" : t < 60 ? t.toFixed(1) + " s" : Memory.clock(t));
const bytes = (n) => (n < 1e6 ? Math.round(n / 1e3) + " kB" : n < 1e9 ? (n / 1e6).toFixed(n < 1e8 ? 1 : 0) + " MB" : +(n / 1e9).toFixed(1) + " GB");
const many = (n, word) => n.toLocaleString("en") + " " + word + (n === 1 ? "" : "s");

async function call(path, options) {
  const response = await fetch(path, options);
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(value.error || "The server answered " + response.status + ".");
  return value;
}

// --- sessions -------------------------------------------------------------------------------------------------------

async function refresh(show) {
  const found = await call("/api/sessions");
  page.rooms = found.sessions;
  page.limits = found.limits;
  const known = page.rooms.some((room) => room.id === page.room);
  if (show) open(show);
  else if (!known) open(page.rooms.length ? page.rooms[0].id : null);
  tabs();
}

function tabs() {
  const list = $("tabs");
  list.replaceChildren(...page.rooms.map((room) => {
    const tab = make("div", undefined, "tab");
    tab.dataset.on = room.id === page.room;
    const name = make("button", room.name);
    name.setAttribute("role", "tab");
    name.setAttribute("aria-selected", room.id === page.room);
    name.title = room.name;
    name.onclick = () => { open(room.id); tabs(); };
    const close = make("button", "\u00d7", "close");
    close.setAttribute("aria-label", "Close " + room.name);
    close.onclick = () => end(room);
    tab.append(name, close);
    return tab;
  }));
}

async function end(room) {
  if (!confirm("Close " + room.name + "? Its memory is let go.")) return;
  if (page.film && page.film.room === room.id) stopFilm();
  await call("/api/sessions/" + room.id, { method: "DELETE" }).catch(() => {});
  await refresh();
}

function open(id) {
  if (page.socket) { page.socket.onclose = null; page.socket.close(); page.socket = null; }
  page.room = id;
  page.timeline = null;
  page.waiting.clear();
  setAsOf(null);
  $("answers").replaceChildren();
  $("standing").replaceChildren();
  $("video").hidden = true;
  $("blank").hidden = false;
  $("blank-add").hidden = id !== null;
  $("blank-text").textContent = id === null ? "No video yet." : "Waiting for the first frame.";
  $("notice").hidden = true;
  for (const name of ["badge", "clock", "held", "counts", "log"]) $(name).replaceChildren();
  $("badge").dataset.state = "";
  paint();
  ready();
  if (id !== null) connect();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss://" : "ws://";
  const socket = new WebSocket(scheme + location.host + "/api/sessions/" + page.room + "/live");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { page.retry = 0; $("notice").hidden = true; ready(); };
  socket.onmessage = (event) => (typeof event.data === "string" ? heard(JSON.parse(event.data)) : seen(event.data));
  socket.onclose = () => {
    if (page.socket !== socket) return;
    ready();
    notice("The connection to the server is lost; trying again.");
    for (const id of page.waiting.keys()) fail(id, "The connection was lost before the answer came.");
    setTimeout(async () => {
      if (page.socket !== socket) return;
      try { await refresh(); } catch { /* the server is away: the next try tells */ }
      if (page.socket === socket && page.room !== null) connect();
    }, Math.min(500 * 2 ** page.retry++, 8000));
  };
  page.socket = socket;
}

function say(message) {
  if (page.socket && page.socket.readyState === WebSocket.OPEN) page.socket.send(JSON.stringify(message));
}

function notice(words) {
  $("notice").textContent = words;
  $("notice").hidden = !words;
}

// --- what comes from the server -------------------------------------------------------------------------------------

function seen(data) {
  const video = $("video"), t = new DataView(data).getFloat64(0, true);
  const url = URL.createObjectURL(new Blob([new Uint8Array(data, 8)], { type: "image/jpeg" }));
  video.onload = () => { URL.revokeObjectURL(url); say({ type: "shown" }); };
  video.onerror = video.onload;
  video.src = url;
  video.hidden = false;
  $("blank").hidden = true;
  $("clock").textContent = seconds(t);
}

function heard(message) {
  const kinds = { hello, status, timeline, piece, answer: done, alert: done, standing: promised, error: failed };
  if (kinds[message.type]) kinds[message.type](message);
}

function hello(message) {
  $("answers").replaceChildren();
  for (const said of message.history) done(said);
}

const STATES = { waiting: "waiting", live: "live", playing: "playing", lost: "connection lost", ended: "ended", failed: "failed" };

function status(message) {
  $("badge").textContent = STATES[message.state] || message.state;
  $("badge").dataset.state = message.state;
  const dropped = message.counters.dropped;
  $("held").textContent = message.memory + ", " + bytes(message.bytes) + (dropped ? ", " + many(dropped, "frame") + " skipped" : "");
  if (message.state === "ended" && $("video").hidden) $("blank-text").textContent = "The stream has ended.";
  const trouble = message.error || (message.state === "lost" ? "The stream stopped; it goes on when frames come again." : "");
  notice(trouble || (message.refused ? message.refused[0] : ""));
  const held = $("standing");
  const now = JSON.stringify(message.standing);
  if (held.dataset.now === now) return;
  held.dataset.now = now;
  held.replaceChildren(...message.standing.map((item) => {
    const chip = make("li", undefined, "chip");
    const stop = make("button", "\u00d7");
    stop.setAttribute("aria-label", "Stop waiting for: " + item.question);
    stop.onclick = () => say({ type: "forget", number: item.number });
    chip.append(make("span", "Waiting: " + item.question), stop);
    if (item.trouble) chip.append(make("small", item.trouble, "error"));
    return chip;
  }));
  follow();
}

function timeline(message) {
  page.timeline = message;
  const parts = [["kept", message.kept, "kept whole"], ["merged", message.merged, "merged"], ["gone", message.let_go, "let go"]];
  const total = Math.max(message.version, 1);
  for (const [name, count] of parts) document.querySelector(".share ." + name).style.flexBasis = (100 * count) / total + "%";
  $("counts").replaceChildren(...parts.map(([name, count, words]) => make("b", count.toLocaleString("en") + " " + words, name)));
  $("log").replaceChildren(...[...message.log].reverse().map((item) => {
    const when = item.t0 === item.t1 ? seconds(item.t0) : seconds(item.t0) + " \u2013 " + seconds(item.t1);
    return make("li", when + "  " + item.what + (item.what === "merged" ? " into " : ": ") + many(item.frames, "frame"));
  }));
  paint();
}

function paint() {
  const empty = { stores: [], until_s: 0 };
  Memory.draw($("timeline"), page.timeline || empty, [page.asOf]);
}

// --- questions ------------------------------------------------------------------------------------------------------

// The newest answer stays in view: in its own list on a wide page, on a narrow one by moving the page.
function follow() {
  const list = $("answers");
  if (list.scrollHeight > list.clientHeight + 1) list.scrollTop = list.scrollHeight;
  else if (page.waiting.size && list.lastElementChild) {
    const below = list.lastElementChild.getBoundingClientRect().bottom - $("form").getBoundingClientRect().top;
    if (below > 0) window.scrollBy({ top: below + 12 });
  }
}

// Stretches that touch are one for a reader.
function stretches(evidence) {
  const joined = [];
  for (const s of [...evidence].sort((a, b) => a.t0 - b.t0)) {
    const last = joined[joined.length - 1];
    if (last && s.t0 <= last.t1) last.t1 = Math.max(last.t1, s.t1);
    else joined.push({ t0: s.t0, t1: s.t1 });
  }
  return joined;
}

function entry(question) {
  const item = make("li"), words = make("p", "Thinking", "a waiting");
  item.append(make("p", question, "q"), words);
  $("answers").append(item);
  follow();
  return { item, words };
}

function ask(question) {
  const id = page.next++;
  page.waiting.set(id, entry(question + (page.asOf === null ? "" : "  (as of " + seconds(page.asOf) + ")")));
  const message = { type: "ask", id, question };
  if (page.asOf !== null) message.at_s = page.asOf;
  say(message);
}

function piece(message) {
  const open = page.waiting.get(message.id);
  if (open && message.text) { open.words.textContent = message.text; follow(); }
}

function done(message) {
  const open = page.waiting.get(message.id) || entry(message.question);
  page.waiting.delete(message.id);
  open.words.className = "a";
  open.words.textContent = message.answer || "(no answer)";
  if (message.type === "alert") open.words.prepend(make("span", "Now: ", "bell"));
  const about = ["from the memory at " + seconds(message.at_s)];
  if (message.confidence !== null) about.unshift(Math.round(100 * message.confidence) + "% sure");
  const held = stretches(message.evidence);
  const spans = held.slice(0, 3).map((s) => (s.t0 === s.t1 ? seconds(s.t0) : seconds(s.t0) + "\u2013" + seconds(s.t1)));
  if (spans.length) about.push("evidence " + spans.join(", ") + (held.length > 3 ? ", \u2026" : ""));
  open.item.append(make("p", about.join(" \u00b7 "), "about"));
  if (message.frames.length) {
    const thumbs = make("div", undefined, "thumbs");
    for (const frame of message.frames) {
      const button = make("button"), image = make("img");
      button.type = "button";
      image.src = frame.url;
      image.alt = "Frame at " + seconds(frame.t_s);
      image.loading = "lazy";
      button.append(image, make("span", seconds(frame.t_s)));
      button.onclick = () => enlarge(frame, message.question);
      thumbs.append(button);
    }
    open.item.append(thumbs);
  }
  follow();
}

function promised(message) {
  const open = page.waiting.get(message.id);
  page.waiting.delete(message.id);
  if (!open) return;
  open.words.className = "a";
  open.words.textContent = "I will tell you when: " + message.question;
  follow();
}

function fail(id, words) {
  const open = page.waiting.get(id);
  page.waiting.delete(id);
  if (!open) return notice(words);
  open.words.className = "a error";
  open.words.textContent = words;
  follow();
}

function failed(message) { fail(message.id, message.message); }

function ready() {
  const open = page.socket && page.socket.readyState === WebSocket.OPEN;
  $("question").disabled = page.room === null;
  $("send").disabled = !open || !$("question").value.trim();
}

function setAsOf(t) {
  page.asOf = t;
  $("as-of").hidden = t === null;
  if (t !== null) $("as-of").querySelector("span").textContent = "As of " + seconds(t);
}

function enlarge(frame, question) {
  const box = $("large");
  box.querySelector("img").src = frame.url;
  box.querySelector("img").alt = "Frame at " + seconds(frame.t_s);
  box.querySelector("p").textContent = seconds(frame.t_s) + " \u2013 " + question;
  box.showModal();
}

// --- adding ---------------------------------------------------------------------------------------------------------

function adding() {
  $("adding-error").textContent = "";
  $("progress").hidden = true;
  const most = page.limits ? page.limits.upload_bytes : 0;
  $("limit").textContent = most ? "up to " + bytes(most) : "";
  $("film").disabled = !(navigator.mediaDevices && navigator.mediaDevices.getUserMedia);
  $("film").title = $("film").disabled ? "Browsers give the camera only to pages over HTTPS or on this machine." : "";
  $("adding").showModal();
}

function upload(file) {
  const trouble = $("adding-error"), bar = $("progress");
  trouble.textContent = "";
  if (page.limits && file.size > page.limits.upload_bytes) {
    trouble.textContent = file.name + " has " + bytes(file.size) + "; at most " + bytes(page.limits.upload_bytes) + " are taken.";
    return;
  }
  // fetch tells nothing of how far an upload has come
  const request = new XMLHttpRequest();
  request.open("POST", "/api/uploads?name=" + encodeURIComponent(file.name));
  request.upload.onprogress = (event) => { bar.hidden = false; bar.value = event.total ? event.loaded / event.total : 0; };
  request.onload = async () => {
    bar.hidden = true;
    let value = {};
    try { value = JSON.parse(request.responseText); } catch { /* the status tells */ }
    if (request.status !== 201) { trouble.textContent = value.error || "The server answered " + request.status + "."; return; }
    $("adding").close();
    await refresh(value.id);
  };
  request.onerror = () => { bar.hidden = true; trouble.textContent = "The upload failed: the server closed the connection."; };
  request.send(file);
}

async function film() {
  const trouble = $("adding-error");
  trouble.textContent = "";
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 640 } } });
    stopFilm();
    const room = await call("/api/sessions", { method: "POST" });
    const video = make("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    const canvas = make("canvas");
    page.film = { room: room.id, stream, timer: setInterval(() => shoot(video, canvas), 200) };
    $("adding").close();
    await refresh(room.id);
  } catch (error) {
    trouble.textContent = error.name === "NotAllowedError" ? "The browser was not allowed to use the camera." : error.message;
  }
}

function shoot(video, canvas) {
  const socket = page.socket;
  // frames go to the session on show alone, and never faster than the line takes them
  if (!page.film || page.room !== page.film.room || !socket || socket.readyState !== WebSocket.OPEN || socket.bufferedAmount > 2e5) return;
  const scale = Math.min(1, 640 / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  if (!canvas.width) return;
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => {
    if (!blob || socket.readyState !== WebSocket.OPEN) return;
    const now = new DataView(new ArrayBuffer(8));
    now.setFloat64(0, -1, true);
    socket.send(new Blob([now.buffer, blob]));
  }, "image/jpeg", 0.8);
}

function stopFilm() {
  if (!page.film) return;
  clearInterval(page.film.timer);
  page.film.stream.getTracks().forEach((track) => track.stop());
  page.film = null;
}

// --- hands ----------------------------------------------------------------------------------------------------------

$("form").onsubmit = (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || $("send").disabled) return;
  ask(question);
  $("question").value = "";
  ready();
};
$("tell").onclick = () => {
  const box = $("question");
  if (!/^tell me when/i.test(box.value)) box.value = "Tell me when " + box.value;
  box.focus();
  ready();
};
$("question").oninput = ready;
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("form").requestSubmit(); }
};
$("as-of").querySelector("button").onclick = () => { setAsOf(null); paint(); };
$("timeline").onclick = (event) => { if (page.timeline) { setAsOf(Memory.timeAt(event.offsetX)); paint(); $("question").focus(); } };
$("timeline").onmousemove = (event) => { const t = Memory.timeAt(event.offsetX); if (t !== null && page.timeline) $("under").textContent = seconds(t) + ": click to ask as of that moment."; };
$("timeline").onmouseleave = () => { $("under").textContent = "Click the timeline to ask as of that moment."; };
$("timeline").onkeydown = (event) => {
  const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!way || !page.timeline) return;
  const end = page.timeline.until_s || 0;
  setAsOf(Math.min(Math.max((page.asOf === null ? end : page.asOf) + (way * end) / 50, 0), end));
  paint();
};
$("add").onclick = $("blank-add").onclick = adding;
$("file").onchange = () => { if ($("file").files.length) upload($("file").files[0]); $("file").value = ""; };
$("film").onclick = film;
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) upload(event.dataTransfer.files[0]);
  });
}
for (const box of document.querySelectorAll("dialog")) box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
window.addEventListener("resize", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
refresh().catch((error) => notice(error.message));
