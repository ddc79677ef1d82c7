"use strict";

// The order of questions and sides: the same numbers as study_page.py, which checks the answers by them.
function randomWords(seed) {
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(seed)) state = Math.imul(state ^ byte, 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return (word ^ (word >>> 14)) >>> 0;
  };
}

function shuffled(items, seed) {
  const mixed = [...items];
  const next = randomWords(seed);
  for (let last = mixed.length - 1; last > 0; last--) {
    const other = Math.floor((next() * (last + 1)) / 4294967296);
    [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
  }
  return mixed;
}

function orderFor(study, participant) {
  const number = study.participants === null ? 0 : Number(participant);
  const pair = study.participants === null ? participant : `pair ${Math.floor((number + 1) / 2)}`;
  const width = study.questions[0].options.length;
  const turns = shuffled(study.questions.map((_, at) => at % width), `${study.study} sides ${pair}`);
  const seen = study.questions.map((question, at) => {
    const options = [...question.options.slice(turns[at]), ...question.options.slice(0, turns[at])];
    return { ...question, options: number && number % 2 === 0 ? options.reverse() : options };
  });
  return shuffled(seen, `${study.study} order ${participant}`);
}

// Why a participant cannot be called so, or "".
function nameFault(study, name) {
  if (study.participants === null) {
    return /^[A-Za-z0-9._-]{1,40}$/.test(name) ? "" : "Use letters, digits, dots, hyphens and underscores, up to 40.";
  }
  const right = /^[1-9][0-9]{0,8}$/.test(name) && Number(name) <= study.participants;
  return right ? "" : `Use the number that you were given, 1 to ${study.participants}.`;
}

function answersFile(study, state) {
  const answers = orderFor(study, state.participant)
    .filter((question) => question.id in state.answers)
    .map(({ id, options }) => ({ question: id, shown: options, ...state.answers[id] }));
  return { format: study.format, study: study.study, participant: state.participant, answers };
}

const LATE = 20000; // milliseconds

function runPage(study) {
  const part = (id) => document.getElementById(id);
  const drawer = `study ${study.study}`;
  let state = null; // {participant, at, answers: {question: {choice, milliseconds}}}
  let seen = [];
  let since = null; // when the question could be answered, null before
  let stuck = false; // pictures are missing or very late: the question can be passed over
  let everyPixel = false;
  const invited = new URLSearchParams(location.search).get("participant");

  function kept(name) {
    try {
      return JSON.parse(localStorage.getItem(name));
    } catch {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(drawer, JSON.stringify(state.participant));
      localStorage.setItem(`${drawer} ${state.participant}`, JSON.stringify(state));
    } catch {
      part("store").textContent = "This browser keeps nothing: save your answers before you close the page.";
    }
  }

  function show(name, title) {
    for (const section of ["start", "question", "end"]) part(section).hidden = section !== name;
    part("foot").hidden = name === "start";
    part(title).focus();
  }

  function begin(participant) {
    const found = kept(`${drawer} ${participant}`);
    const earlier = found && Number.isInteger(found.at) && found.answers ? found : null;
    state = earlier ?? { participant, at: 0, answers: {} };
    seen = orderFor(study, participant);
    part("me").textContent = participant;
    go(state.at, earlier ? "Going on where you were." : "");
  }

  // Told to who sees the page and, with what is on it, to who hears it.
  function tell(note, more = "") {
    part("note").textContent = note;
    part("said").textContent = `${note} ${more}`.trim();
  }

  function go(at, note = "") {
    state.at = Math.max(0, Math.min(at, seen.length));
    keep();
    if (state.at === seen.length) return finish(note);
    const question = seen[state.at];
    const known = state.answers[question.id];
    const count = `Question ${state.at + 1} of ${seen.length}`;
    part("count").textContent = count;
    part("progress").max = seen.length;
    part("progress").value = Object.keys(state.answers).length;
    part("prompt").textContent = question.prompt;
    part("trouble").textContent = "";
    part("photos").replaceChildren(...question.photos.map((name, at) => picture(name, `Photo ${at + 1} of the thing`)));
    part("options").replaceChildren(...question.options.map((name, at) => option(name, at, known)));
    part("scene").src = address(question.scene);
    part("tie").setAttribute("aria-pressed", String(known !== undefined && known.choice === null));
    part("back").disabled = state.at === 0;
    part("forward").disabled = known === undefined;
    tell(note, `${count}. The words: ${question.prompt}`);
    show("question", "count");
    fit();
    ready(question);
  }

  // Answers are taken once all pictures can be seen; until then nothing is timed. Where they do not come, the question
  // can be passed over.
  function ready(question) {
    const here = () => seen[state.at] === question;
    since = null;
    stuck = false;
    lock(true);
    const late = setTimeout(() => here() && since === null && pass("The pictures of this page are late."), LATE);
    const pictures = [part("scene"), ...part("photos").children, ...optionPictures()];
    Promise.all(pictures.map((one) => one.decode())).then(
      () => {
        clearTimeout(late);
        if (!here()) return;
        since = performance.now();
        stuck = false;
        part("trouble").textContent = "";
        part("forward").disabled = !(question.id in state.answers);
        lock(false);
      },
      () => {
        clearTimeout(late);
        if (here()) pass("A picture of this page is missing or broken.");
      },
    );
  }

  function pass(reason) {
    stuck = true;
    part("forward").disabled = false;
    part("trouble").textContent = `${reason} Go forward: the question stays unanswered. Please tell whoever asked you.`;
  }

  function lock(locked) {
    for (const button of [...part("options").children, part("tie")]) button.disabled = locked;
  }

  function address(name) {
    return `pictures/${name}.png`;
  }

  function picture(name, words) {
    const image = document.createElement("img");
    image.src = address(name);
    image.alt = words;
    return image;
  }

  function option(name, at, known) {
    const button = document.createElement("button");
    const label = document.createElement("span");
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", String(at + 1));
    button.setAttribute("aria-pressed", String(known !== undefined && known.choice === at));
    label.textContent = String(at + 1);
    button.append(picture(name, `Picture ${at + 1}`), label);
    button.onclick = () => choose(at);
    return button;
  }

  function optionPictures() {
    return [...part("options").children].map((button) => button.children[0]);
  }

  // Whole multiples of the screen's own pixels where there is room; smaller, smoothly, where there is not.
  function fit() {
    const [width, height] = seen[state.at].size;
    const images = optionPictures();
    const screen = window.devicePixelRatio || 1;
    const room = Math.max(64, part("options").clientWidth / images.length - 40);
    const most = Math.min((room * screen) / width, (Math.max(240, window.innerHeight * 0.6) * screen) / height);
    const factor = most >= 1 || everyPixel ? Math.max(1, Math.floor(most)) : most;
    for (const image of images) {
      image.style.width = `${(width * factor) / screen}px`;
      image.style.height = `${(height * factor) / screen}px`;
      image.className = factor >= 1 ? "whole" : "";
    }
  }

  function choose(choice) {
    if (since === null) return;
    const { id } = seen[state.at];
    const before = state.answers[id]?.milliseconds ?? 0;
    state.answers[id] = { choice, milliseconds: Math.round(before + performance.now() - since) };
    go(state.at + 1);
  }

  function finish(note) {
    since = null;
    const left = seen.length - Object.keys(state.answers).length;
    part("summary").textContent = `All ${seen.length} questions are seen${left ? `, ${left} of them not answered` : ""}.`;
    tell(note, part("summary").textContent);
    show("end", "end-title");
  }

  function save() {
    const text = JSON.stringify(answersFile(study, state), null, 1);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `answers-${state.participant}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    tell("Saved.");
  }

  function zoom() {
    everyPixel = !everyPixel;
    part("zoom").setAttribute("aria-pressed", String(everyPixel));
    fit();
  }

  function forward() {
    if (state.at < seen.length && (stuck || seen[state.at].id in state.answers)) go(state.at + 1);
  }

  function welcome() {
    part("fault").textContent = "";
    part("name").value = invited ?? "";
    show("start", "start-title");
  }

  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !part("start").hidden) return;
    const asking = !part("question").hidden;
    const digit = /^[0-9]$/.test(event.key) ? Number(event.key) : -1;
    if (event.key === "ArrowLeft") go(state.at - 1);
    else if (event.key === "ArrowRight" && asking) forward();
    else if (event.key.toLowerCase() === "z" && asking) zoom();
    else if (asking && digit === 0) choose(null);
    else if (asking && digit > 0 && digit <= seen[state.at].options.length) choose(digit - 1);
    else return;
    event.preventDefault();
  });
  part("who").onsubmit = (event) => {
    event.preventDefault();
    const name = part("name").value.trim();
    part("fault").textContent = nameFault(study, name);
    if (part("fault").textContent === "") begin(name);
  };
  part("back").onclick = part("return").onclick = () => go(state.at - 1);
  part("forward").onclick = forward;
  part("tie").onclick = () => choose(null);
  part("zoom").onclick = zoom;
  part("save").onclick = save;
  part("other").onclick = welcome;
  window.onresize = () => part("question").hidden || fit();
  part("rule").textContent = study.participants === null ? "" : `(1 to ${study.participants})`;
  part("ask").textContent = study.ask;
  const last = kept(drawer);
  const known = typeof last === "string" && nameFault(study, last) === "";
  if (known && (invited === null || invited === last)) begin(last);
  else welcome();
}

if (typeof document !== "undefined") runPage(JSON.parse(document.getElementById("study").textContent));
if (typeof module !== "undefined") module.exports = { orderFor, answersFile, nameFault };
