// The reply browser: replies of one arm (or all), beside those of another, filtered; 50 on a page. What is chosen stands
// in the address after #, so that a link shows the same replies. Texts are only ever set as text.
(() => {
  "use strict";
  const PAGE = 50;
  const WORDS = 600; // longer replies are not compared word by word
  const ANY = "any";
  const place = document.getElementById("replies");
  const data = JSON.parse(document.getElementById("replies-data").textContent);
  const { arms, emotions, labels, valences, scenes } = data;
  const rows = data.replies.text.map((text, i) => ({
    text,
    arm: data.replies.arm[i],
    scene: data.replies.scene[i],
    emotion: data.replies.emotion[i],
    seed: data.replies.seed[i],
    label: data.replies.label[i],
    broken: data.replies.degenerate[i] === 1,
  }));

  const key = (arm, scene, emotion, seed) => `${arm} ${scene} ${emotion} ${seed}`;
  const index = new Map(rows.map((row) => [key(row.arm, row.scene, row.emotion, row.seed), row]));
  // The other arm's reply to the same prompt: the same draw, else its first; an unedited reply stands beside any emotion.
  const partner = (row, arm, wanted) => {
    const emotion = row.emotion >= 0 ? row.emotion : Math.max(wanted, 0);
    const tries = [[emotion, row.seed], [emotion, 0], [-1, row.seed], [-1, 0]];
    for (const [e, seed] of tries) {
      const found = index.get(key(arm, row.scene, e, seed));
      if (found) return found;
    }
    return null;
  };

  const state = { arm: "", beside: "", emotion: ANY, valence: ANY, label: ANY, degenerate: ANY, find: "", page: 1 };
  const first = { ...state, arm: arms[data.first], beside: data.beside < 0 ? "" : arms[data.beside] };

  const make = (name, kind, text) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  const inputs = {};
  const field = (name, title, element) => {
    const label = make("label", "", `${title} `);
    element.dataset.name = name;
    label.append(element);
    inputs[name] = element;
    return label;
  };
  const menu = (name, title, options) => {
    const select = make("select");
    for (const [value, text] of options) select.append(new Option(text, value));
    select.addEventListener("change", () => change(name, select.value));
    return field(name, title, select);
  };
  const plain = (names) => [[ANY, ANY], ...names.map((name) => [name, name])];

  const bar = make("div", "filters");
  const search = make("input");
  search.type = "search";
  search.placeholder = "words in reply or prompt";
  search.addEventListener("input", () => change("find", search.value));
  bar.append(
    menu("arm", "arm", [...arms.map((name) => [name, name]), [ANY, "all arms"]]),
    menu("beside", "beside", [["", "nothing"], ...arms.map((name) => [name, name])]),
    menu("emotion", "emotion", plain(emotions)),
  );
  if (valences.length > 1) bar.append(menu("valence", "event", plain(valences)));
  if (labels.length) {
    const asked = [["=", "the emotion asked for"], ["≠", "another"]];
    bar.append(menu("label", "labelled", [[ANY, ANY], ...asked, ...labels.map((name) => [name, name])]));
  }
  bar.append(menu("degenerate", "degenerate", [[ANY, ANY], ["no", "no"], ["yes", "yes"]]), field("find", "search", search));
  const clear = make("button", "clear", "clear");
  clear.addEventListener("click", () => set({ ...first }));
  bar.append(clear);

  const back = make("button", "back", "← back");
  const next = make("button", "next", "next →");
  const count = make("span", "count small");
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  const pager = make("div", "pager");
  pager.append(back, next, count);
  const list = make("div", "list");

  const labelled = (row) => {
    const name = row.label < 0 ? null : labels[row.label];
    if (state.label === ANY) return true;
    if (state.label === "=") return name !== null && row.emotion >= 0 && name === emotions[row.emotion];
    if (state.label === "≠") return name !== null && row.emotion >= 0 && name !== emotions[row.emotion];
    return name === state.label;
  };

  const matching = () => {
    const arm = arms.indexOf(state.arm);
    const beside = arms.indexOf(state.beside);
    const emotion = emotions.indexOf(state.emotion);
    const valence = valences.indexOf(state.valence);
    const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const row of rows) {
      if (state.arm !== ANY && row.arm !== arm) continue;
      if (emotion >= 0 && row.emotion >= 0 && row.emotion !== emotion) continue;
      if (valence >= 0 && scenes[row.scene][1] !== valence) continue;
      if (state.degenerate !== ANY && row.broken !== (state.degenerate === "yes")) continue;
      if (!labelled(row)) continue;
      const other = beside >= 0 && beside !== row.arm ? partner(row, beside, emotion) : null;
      if (words.length) {
        const scene = scenes[row.scene];
        const text = `${row.text} ${other ? other.text : ""} ${scene[2]} ${scene[3]}`.toLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
      }
      found.push([row, other]);
    }
    return found;
  };

  // Which words of a and b are no part of their longest common sequence.
  const differing = (a, b) => {
    const n = a.length, m = b.length;
    const table = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
    for (let i = n - 1; i >= 0; i--)
      for (let j = m - 1; j >= 0; j--)
        table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    const own = new Array(n).fill(true), other = new Array(m).fill(true);
    for (let i = 0, j = 0; i < n && j < m; ) {
      if (a[i] === b[j]) own[i++] = other[j++] = false;
      else if (table[i + 1][j] >= table[i][j + 1]) i++;
      else j++;
    }
    return [own, other];
  };

  const said = (row, marks) => {
    const box = make("p", row.broken ? "said degenerate" : "said");
    box.dir = "auto";
    if (!row.text.trim()) box.append(make("span", "small", "(empty)"));
    else if (!marks) box.textContent = row.text;
    else {
      let at = 0;
      for (const part of row.text.split(/(\s+)/)) {
        if (!part || /^\s+$/.test(part)) box.append(part);
        else box.append(marks[at++] ? make("mark", "", part) : part);
      }
    }
    return box;
  };

  const side = (row, marks) => {
    const box = make("div", "side");
    const who = make("div", "who");
    who.append(make("b", "", arms[row.arm]));
    if (row.seed) who.append(make("span", "small", `, draw ${row.seed + 1}`));
    if (row.label >= 0) {
      const right = row.emotion >= 0 && labels[row.label] === emotions[row.emotion] ? " ✓" : "";
      who.append(make("span", "small", ` labelled ${labels[row.label]}${right}`));
    }
    if (row.broken) who.append(" ", make("span", "mark", "degenerate"));
    box.append(who, said(row, marks));
    return box;
  };

  const words = (row) => row.text.split(/\s+/).filter(Boolean);
  const card = ([row, other]) => {
    const [, valence, scenario, event] = scenes[row.scene];
    const box = make("article", "reply");
    const asked = row.emotion >= 0 ? emotions[row.emotion] : "no emotion";
    const scene = make("p", "scene");
    scene.dir = "auto";
    scene.append(make("b", "", asked), `: ${scenario} ${event}`);
    if (event && valence >= 0) scene.append(make("span", "small", ` (${valences[valence]} event)`));
    const sides = make("div", "sides");
    let marks = [null, null];
    if (other) {
      const [a, b] = [words(row), words(other)];
      if (a.length <= WORDS && b.length <= WORDS) marks = differing(a, b);
    }
    sides.append(side(row, marks[0]));
    if (other) sides.append(side(other, marks[1]));
    box.append(scene, sides);
    return box;
  };

  const render = () => {
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    state.page = Math.min(Math.max(1, state.page), pages);
    const from = (state.page - 1) * PAGE;
    const shown = found.slice(from, from + PAGE);
    list.replaceChildren(...shown.map(card));
    const left = data.left_out ? `; ${data.left_out} more are in samples.jsonl beside this page` : "";
    count.textContent = shown.length
      ? `${from + 1}–${from + shown.length} of ${found.length} (${rows.length} replies of all arms here${left})`
      : `no reply fits (${rows.length} replies of all arms here${left})`;
    back.disabled = state.page <= 1;
    next.disabled = state.page >= pages;
    for (const [name, input] of Object.entries(inputs)) if (input.value !== state[name]) input.value = state[name];
  };

  const remember = () => {
    const own = Object.entries(state).filter(([name, value]) => String(value) !== String(first[name]));
    const text = new URLSearchParams(own.map(([name, value]) => [name, String(value)])).toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  };
  const set = (values) => {
    Object.assign(state, values);
    remember();
    render();
  };
  const change = (name, value) => set({ [name]: value, page: 1 });
  const turn = (by) => {
    set({ page: state.page + by });
    pager.scrollIntoView();
  };

  // Only what a menu offers is taken from an address.
  const recall = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    Object.assign(state, first);
    for (const name of Object.keys(state)) {
      const value = given.get(name);
      if (value === null) continue;
      if (name === "page") state.page = Math.max(1, parseInt(value, 10) || 1);
      else if (name === "find") state.find = value;
      else if (inputs[name] && [...inputs[name].options].some((option) => option.value === value)) state[name] = value;
    }
    render();
  };

  place.replaceChildren(bar, pager, list);
  window.addEventListener("hashchange", recall);
  recall();
})();
