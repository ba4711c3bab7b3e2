"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const { element, narrow, colour, escaped, base, draw } = page;
  const { parameters, objectives, points } = data;
  const every = points.number.map((_, index) => index);
  const DONE = 0;
  const KINDS = [
    { name: "simulated whole", state: 0, front: 0, symbol: "circle", colour: "unit-move", size: 7 },
    { name: "over a budget", state: 1, front: 0, symbol: "x-thin-open", colour: "unit-store", size: 8 },
    { name: "pruned (at best here)", state: 2, front: 0, symbol: "circle-open", colour: "muted", size: 6 },
    { name: "front", state: 0, front: 1, symbol: "diamond", colour: "point-cube", size: 11 },
  ];
  const MARK = "lost-bank-conflict";
  const SERIES = ["unit-load", "unit-vector", "unit-store", "unit-fixpipe", "unit-cube", "unit-seq"];

  const figure = (value) => (value === null ? "-" : Math.abs(value) >= 99.95 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(3))));
  const known = (index) => objectives.every((_, at) => points.figures[at][index] !== null);
  const isMarked = (index) => {
    const chosen = element("mark").value;
    if (!chosen) {
      return false;
    }
    const [parameter, value] = chosen.split(" ").map(Number);
    return points.values[parameter][index] === value;
  };

  function pointText(index) {
    const lines = [`<b>point ${points.number[index]}</b>${points.front[index] ? ", of the front" : ""}`];
    objectives.forEach(({ name, unit, sign }, at) => {
      const limit = points.bounds[at][index] ? (sign > 0 ? "at least " : "at most ") : "";
      lines.push(`${escaped(name)}: ${limit}${figure(points.figures[at][index])} ${unit}`);
    });
    parameters.forEach((each, at) => lines.push(`${escaped(each.name)} = ${escaped(each.values[points.values[at][index]])}`));
    return lines.join("<br>");
  }

  const axisOf = (at, axis) => (at < 0 ? { ...axis, title: { text: "number of the point" } } : {
    ...axis, title: { text: `${objectives[at].name}, ${objectives[at].unit}` }, type: objectives[at].log ? "log" : "linear",
  });

  function frontPlot(number, [x, y]) {
    const { axis, layout } = base(narrow() ? 400 : 460);
    const at = (axis, index) => (axis < 0 ? points.number[index] : points.figures[axis][index]);
    const traces = KINDS.map((kind) => {
      const shown = every.filter((index) => points.state[index] === kind.state && points.front[index] === kind.front && known(index));
      return {
        type: "scatter", mode: "markers", name: kind.name, x: shown.map((index) => at(x, index)), y: shown.map((index) => at(y, index)),
        customdata: shown.map((index) => points.number[index]), hovertext: shown.map(pointText), hovertemplate: "%{hovertext}<extra></extra>",
        marker: {
          symbol: kind.symbol, size: kind.size, opacity: kind.front ? 1 : 0.75, color: colour(kind.colour),
          line: { width: 1, color: colour(kind.symbol.includes("open") ? kind.colour : "page") },
        },
      };
    }).filter((trace) => trace.x.length);
    const marked = every.filter((index) => known(index) && isMarked(index));
    if (marked.length) {
      traces.push({
        type: "scatter", mode: "markers", name: "marked", x: marked.map((index) => at(x, index)), y: marked.map((index) => at(y, index)), hoverinfo: "skip",
        customdata: marked.map((index) => points.number[index]), marker: { symbol: "circle-open", size: 15, color: colour(MARK), line: { width: 1.8 } },
      });
    }
    if (objectives.length === 2) {
      const best = every.filter((index) => points.front[index]).sort((a, b) => objectives[x].sign * (at(x, a) - at(x, b)));
      traces.unshift({
        type: "scatter", mode: "lines", x: best.map((index) => at(x, index)), y: best.map((index) => at(y, index)), hoverinfo: "skip",
        showlegend: false, line: { color: colour("point-cube"), width: 1.2, shape: "hv" },
      });
    }
    return draw(`front-plot-${number}`, traces, {
      ...layout, hovermode: "closest", showlegend: true, xaxis: axisOf(x, axis), yaxis: axisOf(y, axis),
    });
  }

  /* The axes of the parallel coordinates: a place from 0 to 1 for each point, and labels at places. */
  function coordinateAxes(shown) {
    const axes = parameters.map((each, at) => {
      const most = Math.max(1, each.values.length - 1);
      const groups = new Map();
      shown.forEach((index) => {
        const value = points.values[at][index];
        groups.set(value, [...(groups.get(value) || []), index]);
      });
      const place = new Map();
      groups.forEach((members, value) => members.forEach((index, rank) => {
        const apart = members.length > 1 ? (rank / (members.length - 1) - 0.5) * 0.5 : 0;
        place.set(index, (value + apart) / most);
      }));
      const step = Math.ceil(each.values.length / 9);
      return { title: each.short, place, labels: each.values.map((text, value) => [text, value / most]).filter((_, value) => value % step === 0) };
    });
    objectives.forEach((each, at) => {
      const scale = (value) => (each.log ? Math.log(value) : value);
      const figures = shown.map((index) => points.figures[at][index]);
      const low = Math.min(...figures);
      const high = Math.max(...figures);
      const span = scale(high) - scale(low) || 1;
      const place = new Map(shown.map((index, rank) => [index, (scale(figures[rank]) - scale(low)) / span]));
      axes.push({ title: each.name, place, labels: low === high ? [[figure(low), 0]] : [[figure(low), 0], [figure(high), 1]] });
    });
    return axes;
  }

  function coordinates() {
    const { axis, layout } = base(460);
    const shown = every.filter((index) => points.state[index] === DONE);
    const axes = shown.length ? coordinateAxes(shown) : [];
    const line = (indices) => ({
      x: indices.flatMap(() => [...axes.map((_, at) => at), null]),
      y: indices.flatMap((index) => [...axes.map(({ place }) => place.get(index)), null]),
    });
    const plain = shown.filter((index) => !points.front[index] && !isMarked(index));
    const marked = shown.filter((index) => !points.front[index] && isMarked(index));
    const traces = [
      { type: "scatter", mode: "lines", name: "simulated whole", ...line(plain), opacity: 0.3, hoverinfo: "skip", line: { color: colour("unit-move"), width: 1 } },
      { type: "scatter", mode: "lines", name: "marked", ...line(marked), opacity: 0.5, hoverinfo: "skip", line: { color: colour(MARK), width: 1 } },
    ].filter((trace) => trace.x.length);
    shown.filter((index) => points.front[index]).forEach((index, rank) => traces.push({
      type: "scatter", mode: "lines+markers", name: "front", legendgroup: "front", showlegend: rank === 0, customdata: axes.map(() => points.number[index]),
      x: axes.map((_, at) => at), y: axes.map(({ place }) => place.get(index)), hovertext: pointText(index), hovertemplate: "%{hovertext}<extra></extra>",
      line: { color: colour(isMarked(index) ? MARK : "point-cube"), width: 2 }, marker: { size: 5 },
    }));
    const annotations = axes.flatMap(({ labels }, at) => labels.map(([text, y]) => ({
      x: at, y, text: escaped(text), showarrow: false, xanchor: "left", xshift: 5, font: { size: 11, color: colour("text") }, bgcolor: colour("page"), borderpad: 1, opacity: 0.9,
    })));
    return draw("coordinates-plot", traces, {
      ...layout, hovermode: "closest", annotations, showlegend: true, dragmode: false,
      xaxis: { ...axis, tickvals: axes.map((_, at) => at), ticktext: axes.map(({ title }) => escaped(title)), range: [-0.1, axes.length - 0.35], fixedrange: true, gridcolor: colour("muted"), zeroline: false },
      yaxis: { ...axis, range: [-0.32, 1.32], visible: false, fixedrange: true },
    });
  }

  function sensitivity() {
    const given = data.sensitivity;
    const rows = given.objectives.length ? given.parameters.length : 0;
    const { axis, layout } = base(110 + rows * Math.max(26, 14 * given.objectives.length));
    element("sensitivity-plot").hidden = !rows;
    if (!rows) {
      return null;
    }
    const traces = given.objectives.map(({ name, shares }, number) => ({
      type: "bar", orientation: "h", name, y: given.parameters, x: shares.map((share) => 100 * share), marker: { color: colour(SERIES[number % SERIES.length]) },
      hovertemplate: `%{y}: %{x:.1f} % of the variance of ${escaped(name)}<extra></extra>`,
    }));
    return draw("sensitivity-plot", traces, {
      ...layout, barmode: "group", bargap: 0.3, showlegend: true, hovermode: "closest",
      xaxis: { ...axis, title: { text: "share of the variance" }, ticksuffix: " %", rangemode: "tozero", fixedrange: true },
      yaxis: { ...axis, type: "category", autorange: "reversed", fixedrange: true },
    });
  }

  function history() {
    const { axis, layout } = base(320);
    return draw("history-plot", [{
      type: "scatter", mode: "lines", x: data.history.map((_, index) => index + 1), y: data.history, line: { color: colour("unit-load"), width: 2, shape: "hv" },
      hovertemplate: "after %{x} evaluations: %{y:.1%}<extra></extra>",
    }], {
      ...layout, hovermode: "closest", xaxis: { ...axis, title: { text: "evaluations" }, rangemode: "tozero" },
      yaxis: { ...axis, title: { text: "hypervolume" }, tickformat: ".0%", range: [0, 1.05] },
    });
  }

  function drawMarked() {
    data.pairs.forEach((pair, number) => frontPlot(number, pair));
    coordinates();
  }

  function drawAll() {
    drawMarked();
    sensitivity();
    history();
  }

  drawAll();
  element("mark").addEventListener("change", drawMarked);
  page.follow(drawAll);
  document.documentElement.dataset.ready = "true";
})();
