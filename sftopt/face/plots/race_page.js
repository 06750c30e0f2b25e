"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  if (!data.rows.length) return;
  const columns = data.columns, rows = data.rows;
  const at = Object.fromEntries(columns.map((name, place) => [name, place]));
  const shown = ["entry", "instance", "devices", "verdict", "objective_s", "above_best", "bound_s",
    "gap", "build_s", "engine_s", "cpu_s", "peak_bytes", "termination"];
  const filters = ["entry", "verdict", "family", "devices"];
  const STEP = 200;
  let state = { find: "", sort: "", down: false, row: "", hidden: [] };
  let most = STEP;

  function readState() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of ["find", "sort", "row"]) state[name] = given.get(name) || "";
    for (const name of filters) state[name] = given.get(name) || "";
    state.down = given.get("down") === "1";
    state.hidden = (given.get("hidden") || "").split(",").filter(Boolean);
  }
  function writeState() {
    const told = new URLSearchParams();
    for (const name of ["find", "sort", "row", ...filters]) if (state[name]) told.set(name, state[name]);
    if (state.down) told.set("down", "1");
    if (state.hidden.length) told.set("hidden", state.hidden.join(","));
    history.replaceState(null, "", "#" + told.toString());
  }
  function number(value, name) {
    if (value === null || value === undefined) return "-";
    if (typeof value !== "number") return String(value);
    if (name === "peak_bytes") return (value / 1048576).toFixed(0) + " MB";
    if (name === "gap" || name === "above_best") return (100 * value).toPrecision(3) + " %";
    if (name === "devices") return value.toLocaleString("en");
    return String(+value.toPrecision(name === "objective_s" || name === "bound_s" ? 7 : 3));
  }
  function kept() {
    const words = state.find.toLowerCase();
    let found = rows.filter((row) => filters.every((name) => !state[name] || String(row[at[name]]) === state[name])
      && (!words || row.some((cell) => cell !== null && String(cell).toLowerCase().includes(words))));
    if (state.sort) {
      const place = at[state.sort], sign = state.down ? -1 : 1, refused = at.verdict;
      // what is missing or was refused comes last whichever way the rest is sorted
      const last = (row) => row[place] === null || row[refused] === "refused";
      found = found.slice().sort((one, two) => last(one) - last(two)
        || sign * (one[place] < two[place] ? -1 : one[place] > two[place] ? 1 : 0));
    }
    return found;
  }
  function element(name, text, kind) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }
  function draw() {
    const found = kept(), body = byId("body");
    const made = document.createDocumentFragment();
    for (const row of found.slice(0, most)) {
      const line = element("tr");
      for (const name of shown) {
        const kind = name === "verdict" ? "text v-" + row[at.verdict] : typeof row[at[name]] === "string" ? "text" : "";
        line.append(element("td", number(row[at[name]], name), kind));
      }
      line.addEventListener("click", () => { state.row = row[at.key]; writeState(); detail(); });
      made.append(line);
    }
    body.replaceChildren(made);
    byId("count").textContent = found.length + " of " + rows.length + " rows";
    byId("more").hidden = found.length <= most;
    for (const button of byId("head").querySelectorAll("button")) {
      const mine = button.dataset.name === state.sort;
      button.parentElement.setAttribute("aria-sort", mine ? (state.down ? "descending" : "ascending") : "none");
      button.textContent = button.dataset.name.replace(/_/g, " ") + (mine ? (state.down ? " \u25bc" : " \u25b2") : "");
    }
  }
  function detail() {
    const row = rows.find((one) => one[at.key] === state.row), box = byId("detail");
    box.hidden = !row;
    if (!row) return;
    const list = element("dl");
    for (const name of columns) {
      if (row[at[name]] === null || row[at[name]] === "") continue;
      list.append(element("dt", name), element("dd", String(row[at[name]])));
    }
    list.append(element("dt", "again"), element("dd", "sftopt race replay DIR " + row[at.key].slice(0, 16)));
    const steps = data.steps[row[at.key]];
    box.replaceChildren(element("h3", row[at.entry] + " on " + row[at.instance]), list);
    if (steps && window.Plotly) {
      const plot = element("div", undefined, "plot");
      plot.id = "gantt";
      plot.style.height = 140 + 22 * steps.ids.length + "px";
      const delay = element("dl");
      for (const [name, seconds] of Object.entries(steps.delay)) {
        delay.append(element("dt", name), element("dd", +seconds.toPrecision(6) + " s"));
      }
      box.append(element("h3", "The round's delay by parts"), delay,
        element("h3", "One step: devices at work, then waiting for the slowest"), plot);
      gantt(plot, steps);
    }
  }
  function gantt(plot, steps) {
    const names = ["s1", "s2", "s3", "s4", "s5"];
    const told = ["device forward", "uplink", "server", "downlink", "device backward"];
    const traces = names.map((name, place) => ({
      type: "bar", orientation: "h", name: told[place], y: steps.ids,
      x: steps.parts.map((part) => part[place][1]), base: steps.parts.map((part) => part[place][0]),
      marker: { color: data.colours[place] }, hovertemplate: told[place] + ": %{x:.4g} s<extra>%{y}</extra>",
    }));
    Plotly.newPlot(plot, traces, { ...data.layout, barmode: "overlay", showlegend: false,
      height: 140 + 22 * steps.ids.length, margin: { l: 90, r: 16, t: 10, b: 46 },
      xaxis: { title: { text: "seconds of the step" } }, yaxis: { autorange: "reversed", type: "category" } },
      { responsive: true, displaylogo: false });
    const legend = element("ul", undefined, "legend");
    told.forEach((text, place) => {
      const item = element("li"), mark = element("span", "\u25a0 ");
      mark.style.color = data.colours[place];
      item.append(mark, text);
      legend.append(item);
    });
    plot.after(legend);
  }
  function controls() {
    for (const name of filters) {
      const values = [...new Set(rows.map((row) => row[at[name]]))].filter((value) => value !== "" && value !== null);
      values.sort((one, two) => (typeof one === "number" ? one - two : one < two ? -1 : 1));
      const box = byId(name);
      box.append(new Option("every " + name, ""), ...values.map((value) => new Option(String(value), String(value))));
      box.value = state[name];
      box.addEventListener("change", () => { state[name] = box.value; most = STEP; writeState(); draw(); });
    }
    byId("find").value = state.find;
    byId("find").addEventListener("input", (event) => { state.find = event.target.value; most = STEP; writeState(); draw(); });
    byId("more").addEventListener("click", () => { most += STEP; draw(); });
    byId("clear").addEventListener("click", () => {
      state = { find: "", sort: "", down: false, row: "", hidden: state.hidden, entry: "", verdict: "", family: "", devices: "" };
      for (const name of [...filters, "find"]) byId(name).value = "";
      writeState(); draw(); detail();
    });
    byId("download").addEventListener("click", () => {
      const cell = (value) => value === null ? "" : /[",\n]/.test(String(value)) ? '"' + String(value).replace(/"/g, '""') + '"' : String(value);
      const text = [columns, ...kept()].map((row) => row.map(cell).join(",")).join("\n") + "\n";
      const link = element("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.download = "rows.csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
    for (const name of shown) {
      const head = element("th"), button = element("button", name);
      button.type = "button";
      button.dataset.name = name;
      button.addEventListener("click", () => {
        state.down = state.sort === name && !state.down;
        state.sort = name;
        writeState(); draw();
      });
      head.append(button);
      byId("head").append(head);
    }
  }
  function legend() {
    for (const entry of data.entries) {
      const item = element("li"), button = element("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!state.hidden.includes(entry.name)));
      const dash = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" }[entry.dash];
      button.innerHTML = '<svg width="28" height="8"><line x1="0" x2="28" y1="4" y2="4" stroke-width="3" stroke="'
        + entry.colour + '" stroke-dasharray="' + dash + '"/></svg>';
      button.append(entry.name);
      button.addEventListener("click", () => {
        const hidden = !state.hidden.includes(entry.name);
        state.hidden = hidden ? [...state.hidden, entry.name] : state.hidden.filter((name) => name !== entry.name);
        button.setAttribute("aria-pressed", String(!hidden));
        writeState(); restyle();
      });
      item.append(button);
      byId("legend").append(item);
    }
  }
  function restyle() {
    for (const figure of data.figures) {
      const plot = byId(figure.name);
      const visible = figure.traces.map((trace) => !state.hidden.includes(trace.name));
      if (figure.by_entry) Plotly.restyle(plot, { visible });
    }
  }
  async function library() {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = element("script", await new Response(stream).text());
    document.head.append(script);
  }
  async function figures() {
    try {
      await library();
    } catch (error) {
      for (const figure of data.figures) byId(figure.name).textContent = "This browser is too old for the figures (no DecompressionStream); the table below has the numbers.";
      return;
    }
    for (const figure of data.figures) {
      await Plotly.newPlot(byId(figure.name), figure.traces, { ...data.layout, ...figure.layout }, { responsive: true, displaylogo: false });
    }
    restyle();
    if (state.row) detail();
    document.body.dataset.ready = "1";
  }
  readState();
  controls();
  legend();
  draw();
  detail();
  figures();
}());
