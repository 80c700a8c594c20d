"use strict";
// Moves the marker, the picture and the playhead of an episode; switches between conditions. The page reads without it.
const SVG = "http://www.w3.org/2000/svg";

function player(card) {
  const data = JSON.parse(card.dataset.episode);
  const slider = card.querySelector(".player input");
  const button = card.querySelector(".play");
  const output = card.querySelector(".player output");
  const marker = card.querySelector(".marker");
  const reads = card.querySelector(".reads");
  const view = card.querySelector(".view");
  const tracks = card.querySelector(".tracks");
  const playhead = card.querySelector(".playhead");
  const unit = parseFloat(card.querySelector(".map")?.dataset.unit || "1");
  let timer = null;

  function show(step) {
    const place = data.xz[step];
    if (marker) {
      marker.style.display = place ? "" : "none";
      if (place) marker.setAttribute("transform", `translate(${place[0]} ${place[1]}) rotate(${data.yaw[step] || 0})`);
    }
    if (reads) {
      reads.replaceChildren();
      for (const [past, share] of place ? data.reads[step] || [] : []) {
        const from = data.xz[past];
        if (!from) continue;
        const line = document.createElementNS(SVG, "line");
        for (const [name, value] of [["x1", place[0]], ["y1", place[1]], ["x2", from[0]], ["y2", from[1]]]) line.setAttribute(name, value);
        line.setAttribute("class", "readline");
        line.setAttribute("stroke-width", unit * 0.05);
        const dot = document.createElementNS(SVG, "circle");
        dot.setAttribute("cx", from[0]);
        dot.setAttribute("cy", from[1]);
        dot.setAttribute("r", unit * (0.08 + 0.22 * Math.sqrt(share)));
        dot.setAttribute("class", "read");
        dot.setAttribute("stroke-width", unit * 0.03);
        reads.append(line, dot);
      }
    }
    if (view && data.frame.length) {
      const frame = data.frame[step], x = frame % data.columns, y = Math.floor(frame / data.columns);
      const across = data.columns > 1 ? (100 * x) / (data.columns - 1) : 0;
      const down = data.rows > 1 ? (100 * y) / (data.rows - 1) : 0;
      view.style.backgroundPosition = `${across}% ${down}%`;
    }
    const left = parseFloat(tracks.dataset.left), width = parseFloat(tracks.dataset.width);
    const at = left + (width * (step + 0.5)) / data.total;
    playhead.setAttribute("x1", at);
    playhead.setAttribute("x2", at);
    const words = [`step ${step} of ${data.total - 1}`, data.phase[step], data.action[step]];
    if (data.reward[step]) words.push(`reward ${data.reward[step]}`);
    output.textContent = words.filter(Boolean).join(" · ");
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    button.innerHTML = "&#9654;";
    button.setAttribute("aria-label", "play");
  }

  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (+slider.value >= data.total - 1) slider.value = 0;
    button.innerHTML = "&#10074;&#10074;";
    button.setAttribute("aria-label", "pause");
    timer = setInterval(() => {
      if (+slider.value >= data.total - 1) return stop();
      slider.value = +slider.value + 1;
      show(+slider.value);
    }, Math.max(40, Math.min(220, 12000 / data.total)));
  });
  tracks.addEventListener("click", (event) => {
    const box = tracks.getBoundingClientRect(), view_ = tracks.viewBox.baseVal;
    const x = ((event.clientX - box.left) * view_.width) / box.width - parseFloat(tracks.dataset.left);
    const step = Math.floor((x * data.total) / parseFloat(tracks.dataset.width));
    if (step < 0 || step >= data.total) return;
    stop();
    slider.value = step;
    show(step);
  });
  // The last step shows the outcome and what decided it.
  slider.value = data.total - 1;
  show(data.total - 1);
}

function tabs(group) {
  const buttons = [...group.querySelectorAll(".tabs button")];
  const pages = [...group.querySelectorAll(".episode, .card.lost")];
  const choose = (index) => {
    buttons.forEach((button, i) => button.setAttribute("aria-selected", i === index));
    pages.forEach((page, i) => { page.hidden = i !== index; });
  };
  buttons.forEach((button, index) => button.addEventListener("click", () => choose(index)));
  if (buttons.length) choose(0);
}

document.querySelectorAll(".episode").forEach(player);
document.querySelectorAll(".tabgroup").forEach(tabs);
