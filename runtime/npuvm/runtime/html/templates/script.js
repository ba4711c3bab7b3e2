"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const { element, narrow, colour, escaped, base, inColumns, draw } = page;
  const whole = (value) => value.toLocaleString("en-US");
  const patterns = {
    "bank-conflict": "x", "requests-in-flight": "/", "latency-between-units": "\\", "wait-for-a-unit": "/", "order-within-a-unit": "-",
    "full-queue": "|", decoding: ".", synchronisation: "+", start: "", tail: "", idle: "", imbalance: "\\",
  };

  function roofline() {
    const { axis, layout } = base(narrow() ? 470 : 560);
    const traces = data.roofline.data.map((trace) => {
      const role = trace.meta.role;
      if (role.startsWith("roof-")) {
        return { ...trace, line: { color: colour(role), width: 2 } };
      }
      const size = trace.marker.size.map((each) => each * (narrow() ? data.roofline.narrow_markers : 1));
      const marker = { ...trace.marker, size, color: colour(`point-${role}`), opacity: 0.82, line: { color: colour("page"), width: 1 } };
      return { ...trace, ...(narrow() ? trace.meta.narrow : {}), marker, textfont: { color: colour("text"), size: 11 } };
    });
    const given = data.roofline.layout;
    const annotations = given.annotations.map((each, index) => ({
      ...each, text: narrow() ? each.text.split(" ").slice(0, -2).join(" ") : each.text,
      font: { size: narrow() ? 10 : 12, color: colour(data.roofline.roles[index]) },
    }));
    return draw("roofline-plot", traces, {
      ...layout, hovermode: given.hovermode, annotations,
      xaxis: { ...axis, ...given.xaxis }, yaxis: { ...axis, ...given.yaxis },
    }).then(turnLabels);
  }

  /* The names of the diagonals lie along their lines: the upper one above it, the lower one below. */
  function turnLabels() {
    const plot = element("roofline-plot");
    const box = plot.querySelector(".nsewdrag").getBoundingClientRect();
    const span = (axis) => axis.range[1] - axis.range[0];
    const angle = Math.atan((box.height / span(plot.layout.yaxis)) / (box.width / span(plot.layout.xaxis)));
    const diagonals = data.roofline.roles.map((role, index) => (role === "roof-memory" ? index : -1)).filter((index) => index >= 0);
    const change = {};
    diagonals.forEach((index, place) => {
      const side = place < diagonals.length - 1 ? 1 : -1;
      change[`annotations[${index}].textangle`] = -angle * 180 / Math.PI;
      change[`annotations[${index}].xshift`] = -side * 11 * Math.sin(angle);
      change[`annotations[${index}].yshift`] = side * 11 * Math.cos(angle);
    });
    return Plotly.relayout(plot, change);
  }

  function breakdown() {
    const given = data.breakdown.layout;
    const names = narrow() ? given.meta.short : given.meta.long;
    const { axis, layout } = base(given.meta.bars * 26 + (narrow() ? 210 : 150));
    const traces = data.breakdown.data.map((trace) => {
      const role = trace.meta.role.replace(/ /g, "-");
      const shape = patterns[role.replace("lost-", "")] || "";
      const pattern = { shape, fgcolor: colour("text"), fgopacity: 0.35, size: 6, solidity: 0.2, fillmode: "overlay" };
      return { ...trace, marker: { color: colour(role), pattern, line: { color: colour("page"), width: 0.5 } } };
    });
    return draw("breakdown-plot", traces, {
      ...layout, legend: inColumns(layout.legend), barmode: given.barmode, bargap: 0.25, hovermode: given.hovermode,
      xaxis: { ...axis, ...given.xaxis, fixedrange: true }, yaxis: { ...axis, ...given.yaxis, ticktext: names, fixedrange: true },
    });
  }

  const ROW = 24;
  const COUNTER = 110;
  const GAP = 34;

  function sliceText(chosen, index) {
    const [row, text, free, dispatched, ready, start, until, complete, nbytes] = chosen.slices.map((column) => column[index]);
    const [core, kind, unit] = chosen.rows[row];
    const lines = [
      `<b>${escaped(chosen.texts[text])}</b>`,
      `core ${core} (${kind}), ${unit}`,
      `cycles ${whole(start)} to ${whole(until)} (${whole(until - start)}), result in ${whole(complete)}`,
    ];
    if (nbytes) {
      lines.push(`${whole(nbytes)} bytes to or from global memory`);
    }
    if (start > free) {
      const parts = stalls(free, dispatched, ready, start).map(([kind, from, to]) => `${whole(to - from)} ${WAITS[kind][0]}`);
      lines.push(`unit stood still for ${whole(start - free)}: ${parts.join(", ")}`);
    }
    return lines.join("<br>");
  }

  const WAITS = [["not dispatched yet", "dispatch"], ["signal not there", "signal"], ["order or memory", "other"]];

  /* What a unit stood still for between two instructions, as [index into WAITS, from, to]. */
  function stalls(free, dispatched, ready, start) {
    const first = Math.min(Math.max(free, dispatched), start);
    const second = Math.min(Math.max(first, ready), start);
    return [[0, free, first], [1, first, second], [2, second, start]].filter(([, from, to]) => to > from);
  }

  function timelineTraces(chosen) {
    const labels = chosen.rows.map(([core, , unit]) => `${core} ${unit}`);
    const byUnit = new Map();
    const still = WAITS.map(() => ({ x: [], y: [] }));
    const odd = chosen.rows.map(() => false);
    const [rows, , frees, dispatches, readies, starts, untils] = chosen.slices;
    rows.forEach((row, index) => {
      const unit = chosen.rows[row][2];
      if (!byUnit.has(unit)) {
        byUnit.set(unit, { y: [], x: [], base: [], hovertext: [], opacity: [] });
      }
      const trace = byUnit.get(unit);
      trace.y.push(labels[row]);
      trace.base.push(starts[index]);
      trace.x.push(untils[index] - starts[index]);
      trace.hovertext.push(sliceText(chosen, index));
      trace.opacity.push(odd[row] ? 0.75 : 1);
      odd[row] = !odd[row];
      for (const [kind, from, to] of stalls(frees[index], dispatches[index], readies[index], starts[index])) {
        still[kind].x.push(from, to, null);
        still[kind].y.push(labels[row], labels[row], null);
      }
    });
    const waits = WAITS.map(([name, role], kind) => ({
      type: "scatter", mode: "lines", name, ...still[kind], hoverinfo: "skip", line: { color: colour(`stall-${role}`), width: 4 },
    })).filter(({ x }) => x.length);
    const units = data.units.filter((unit) => byUnit.has(unit)).map((unit) => {
      const { opacity, ...bars } = byUnit.get(unit);
      return {
        type: "bar", orientation: "h", name: unit, legendgroup: unit, width: 0.72, ...bars, hovertemplate: "%{hovertext}<extra></extra>",
        marker: { color: colour(`unit-${unit}`), opacity, line: { width: 0 } },
      };
    });
    return [...waits, ...units];
  }

  function counterTraces(chosen, values, axis, unit) {
    return data.units.filter((name) => name in values).map((name) => ({
      type: "scatter", mode: "lines", name, legendgroup: name, showlegend: false, yaxis: axis,
      x: values[name].map((_, index) => index * chosen.step), y: values[name],
      line: { color: colour(`unit-${name}`), width: 1.6, shape: "hv" },
      hovertemplate: `${name} %{y:.3~g} ${unit}<br>from cycle %{x:,}<extra></extra>`,
    }));
  }

  let view = null;

  function timeline() {
    if (!data.timelines.length) {
      return null;
    }
    const chosen = data.timelines[Number(element("timeline-choice").value)];
    const legend = narrow() ? 110 : 44;
    const inner = chosen.rows.length * ROW + 2 * (COUNTER + GAP);
    const { axis, layout } = base(inner + legend + 60);
    const bottom = (pixels) => 1 - pixels / inner;
    const rowsEnd = chosen.rows.length * ROW;
    const busyTop = rowsEnd + GAP;
    const movedTop = busyTop + COUNTER + GAP;
    const title = (text) => ({ text, font: { size: 11 }, standoff: 4 });
    const traces = [
      ...timelineTraces(chosen),
      ...counterTraces(chosen, chosen.busy, "y2", "busy"),
      ...counterTraces(chosen, chosen.moved, "y3", "bytes per cycle"),
    ];
    const borders = chosen.rows.flatMap(([core], index) => (index && core !== chosen.rows[index - 1][0] ? [index - 0.5] : []));
    return draw("timeline-plot", traces, {
      ...layout, barmode: "overlay", legend: inColumns(layout.legend),
      shapes: borders.map((y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: colour("line"), width: 1.5 } })), hovermode: "closest", showlegend: true,
      margin: { ...layout.margin, l: narrow() ? 8 : 90, t: legend },
      xaxis: { ...axis, title: { text: "cycle" }, range: view || [0, chosen.cycles], anchor: "y3", tickformat: ",d", minallowed: 0, maxallowed: chosen.cycles },
      yaxis: {
        ...axis, type: "category", range: [chosen.rows.length - 0.5, -0.5], categoryorder: "array", fixedrange: true, domain: [bottom(rowsEnd), 1],
        categoryarray: chosen.rows.map(([core, , unit]) => `${core} ${unit}`), title: title(narrow() || chosen.rows.length < 6 ? "" : "core and unit"),
      },
      yaxis2: { ...axis, fixedrange: true, range: [0, 1.05], tickformat: ".0%", nticks: 3, domain: [bottom(busyTop + COUNTER), bottom(busyTop)], title: title("busy") },
      yaxis3: { ...axis, fixedrange: true, rangemode: "tozero", nticks: 4, domain: [bottom(movedTop + COUNTER), bottom(movedTop)], title: title("B/cycle") },
    });
  }

  function move(factor, shift) {
    const plot = element("timeline-plot");
    const last = data.timelines[Number(element("timeline-choice").value)].cycles;
    const [from, to] = plot.layout.xaxis.range;
    const width = Math.min(last, Math.max(10, (to - from) * factor));
    const middle = (from + to) / 2 + shift * (to - from);
    const begin = Math.min(Math.max(0, middle - width / 2), last - width);
    return Plotly.relayout(plot, { "xaxis.range": [begin, begin + width] });
  }

  function wireTimeline() {
    if (!data.timelines.length) {
      return;
    }
    const choice = element("timeline-choice");
    const notes = document.querySelectorAll("[data-timeline]");
    const show = () => {
      view = null;
      notes.forEach((note) => { note.hidden = note.dataset.timeline !== choice.value; });
      timeline();
    };
    choice.addEventListener("change", show);
    element("zoom-in").addEventListener("click", () => move(0.5, 0));
    element("zoom-out").addEventListener("click", () => move(2, 0));
    element("earlier").addEventListener("click", () => move(1, -0.5));
    element("later").addEventListener("click", () => move(1, 0.5));
    element("zoom-all").addEventListener("click", () => move(Infinity, 0));
    show();
    element("timeline-plot").on("plotly_relayout", () => { view = element("timeline-plot").layout.xaxis.range.slice(); });
  }

  function follow() {
    element("roofline-plot").on("plotly_relayout", (change) => {
      if (Object.keys(change).some((name) => name.startsWith("xaxis") || name.startsWith("yaxis"))) {
        turnLabels();
      }
    });
  }

  function drawAll() {
    roofline();
    breakdown();
    timeline();
  }

  wireTimeline();
  roofline();
  follow();
  breakdown();
  page.follow(drawAll);
  document.documentElement.dataset.ready = "true";
})();
