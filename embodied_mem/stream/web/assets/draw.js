// The memory as a picture: one lane per store, one bar per entry, over the time of the stream.
"use strict";

const Memory = (() => {
  const LANE = 22, GAP = 8, AXIS = 20, LABEL = 15;
  let drawn = null;

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // A step of 1, 2 or 5 times a power of ten that leaves room for its labels.
  function step(seconds, width) {
    const least = (seconds * 70) / Math.max(width, 1);
    const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-3)));
    return [1, 2, 5, 10].map((n) => n * power).find((s) => s >= least);
  }

  function clock(seconds) {
    const whole = Math.floor(seconds);
    const rest = String(whole % 60).padStart(2, "0");
    if (whole < 3600) return Math.floor(whole / 60) + ":" + rest;
    return Math.floor(whole / 3600) + ":" + String(Math.floor(whole / 60) % 60).padStart(2, "0") + ":" + rest;
  }

  function draw(canvas, timeline, marks) {
    const stores = timeline.stores;
    const lanes = Math.max(stores.length, 1);
    const width = canvas.clientWidth, height = lanes * (LANE + LABEL + GAP) + AXIS;
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px " + getComputedStyle(document.body).fontFamily;
    const starts = stores.flatMap((s) => s.bars.map((b) => b[0]));
    const first = Math.min(0, ...starts), end = Math.max(timeline.until_s || 0, first + 1);
    const x = (t) => ((t - first) / (end - first)) * width;
    drawn = { first, end, width };
    const most = Math.max(2, ...stores.flatMap((s) => s.bars.map((b) => b[2])));
    stores.forEach((store, lane) => {
      const top = lane * (LANE + LABEL + GAP) + LABEL;
      pen.fillStyle = color("--soft");
      pen.textAlign = "left";
      pen.fillText(store.name + ": " + store.entries + (store.entries === 1 ? " entry" : " entries"), 0, top - 4);
      pen.fillStyle = color("--wash");
      pen.fillRect(0, top, width, LANE);
      // wide bars first, so that single frames stay visible upon them
      const order = [...store.bars].sort((a, b) => b[1] - b[0] - (a[1] - a[0]));
      for (const [t0, t1, frames, entries] of order) {
        const merged = frames > entries;
        const share = merged ? 0.35 + (0.65 * Math.log(frames)) / Math.log(most) : 1;
        const tall = merged ? LANE * Math.min(1, share) : LANE;
        const wide = Math.max(x(t1) - x(t0), 2);
        pen.globalAlpha = merged ? 0.55 : 0.95;
        pen.fillStyle = color(merged ? "--merged" : "--kept");
        pen.fillRect(Math.min(x(t0), width - wide), top + LANE - tall, wide, tall);
        if (merged && wide > 4) {
          pen.globalAlpha = 1;
          pen.strokeStyle = color("--card");
          pen.strokeRect(x(t0) + 0.5, top + LANE - tall + 0.5, wide - 1, tall - 1);
        }
      }
      pen.globalAlpha = 1;
    });
    const bottom = height - AXIS;
    pen.fillStyle = color("--soft");
    const every = step(end - first, width);
    for (let t = Math.ceil(first / every) * every; t <= end; t += every) {
      const label = every < 1 ? t.toFixed(1) + " s" : clock(t);
      const half = pen.measureText(label).width / 2;
      pen.textAlign = "center";
      pen.fillText(label, Math.min(Math.max(x(t), half), width - half), height - 4);
      pen.fillRect(Math.min(x(t), width - 1), bottom, 1, 4);
    }
    for (const t of marks) {
      if (t === null || t > end) continue;
      pen.fillStyle = color("--ink");
      pen.fillRect(Math.min(x(t), width - 2), 0, 2, bottom);
    }
  }

  function timeAt(px) {
    if (!drawn) return null;
    const share = Math.min(Math.max(px / drawn.width, 0), 1);
    return drawn.first + share * (drawn.end - drawn.first);
  }

  return { draw, timeAt, clock };
})();
