// The page: what the easel shows, the queue, and the history.

import {
  ask,
  complain,
  duration,
  follow,
  framed,
  get,
  make,
  named,
  narrow,
  number,
  part,
  redraw,
  redrawList,
  send,
  tell,
  view,
} from "./base.js"
import { Brush } from "./brush.js"
import { compare } from "./compare.js"
import { Form } from "./form.js"
import { LiveView, ProgressView } from "./live.js"

const state = { jobs: [], history: [], revision: 0 }
const shown = {
  view: "photograph",
  job: null,
  preview: null,
  result: null,
  against: "",
  cell: null,
}
const asked = new Map() // of variations: the pictures that they were painted from
const ratios = new Map() // of photographs, width to height
const AXES = {
  content_weight: ["Follow the photograph", "painting", "photograph"],
  style_scale: ["Stroke size", "fine", "broad"],
}
let form,
  live = null,
  progress = null,
  brush = null

const easel = get("#easel"),
  caption = get("#caption")
const button = (text, call, properties = {}) => {
  const found = make("button", { type: "button", ...properties }, text)
  found.addEventListener("click", event => run(() => call(event)))
  return found
}

/** Do something that may be refused, and show why it was. */
async function run(call) {
  try {
    complain("")
    await call()
  } catch (error) {
    complain(error.message)
  }
}

const findJob = id => state.jobs.find(job => job.id === id)
const findResult = name => state.history.find(result => result.name === name)
const busy = job => job.state === "painting" || job.state === "stopping"
const over = job => !busy(job) && job.state !== "waiting"
const address = (result, kind) => `history/${part(result.name)}/${kind}?at=${result.version}`

// ---- the views

const VIEWS = [
  ["photograph", "Photograph"],
  ["variations", "Variations"],
  ["painting", "Painting"],
  ["result", "Result"],
]

function available(name) {
  if (name === "variations") return Boolean(findJob(shown.preview))
  if (name === "painting") return Boolean(findJob(shown.job))
  if (name === "result") return Boolean(findResult(shown.result))
  return true
}

function drawViews() {
  const names = VIEWS.filter(([name]) => available(name))
  redraw(get("#views"), [names, shown.view], () =>
    names.map(([name, text]) =>
      button(text, () => show(name), { "aria-pressed": String(name === shown.view) }),
    ),
  )
}

function show(name) {
  if (brush && name !== "photograph") brush = null
  shown.view = name
  draw()
  if (narrow() && get("#stage").getBoundingClientRect().top < 0) scrollTo({ top: 0 })
}

/** Show everything that may have changed. */
function draw() {
  if (!available(shown.view)) shown.view = "photograph"
  drawViews()
  if (brush) {
    paintEasel(["brush"], () => [[brush.box], [brush.tools]])
  } else {
    ;({
      photograph: drawPhotograph,
      variations: drawVariations,
      painting: drawPainting,
      result: drawResult,
    })[shown.view]()
  }
  drawStatus()
  drawStrip()
}

function paintEasel(key, parts) {
  const text = JSON.stringify(key)
  if (easel.dataset.state === text) return
  easel.dataset.state = text
  const [above, below] = parts()
  easel.replaceChildren(...above)
  caption.replaceChildren(...below)
}

function drawPhotograph() {
  const { content } = form
  paintEasel(["photograph", content?.id], () =>
    content
      ? [[framed(view(content.id), `The photograph ${content.name}`)], []]
      : [
          [
            make(
              "div",
              { class: "empty" },
              make("h2", {}, "Drop a photograph here"),
              make("p", {}, "Then choose a painting that it is painted after."),
              make(
                "div",
                { class: "row" },
                button("Choose a photograph…", () => get("#content-file").click(), {
                  class: "main",
                }),
                button("Try the samples", trySamples),
              ),
            ),
          ],
          [],
        ],
  )
}

function trySamples() {
  form.setContent(form.options.samples[0])
  if (!form.styles.length) form.addStyle(form.options.samples[1])
}

function drawVariations() {
  const job = findJob(shown.preview)
  const ratio = ratioOf(job.content)
  if (!ratio) return paintEasel(["variations", job.id], () => [[], []])
  if (progress?.id !== job.id) progress = Object.assign(new ProgressView(), { id: job.id })
  paintEasel(["variations", job.id, job.cells, shown.cell, job.state, ratio], () => [
    [variations(job)],
    [progress.element],
  ])
  easel.style.setProperty("--ratio", ratio)
  progress.update(job)
  if (over(job))
    progress.text.textContent = outcome(job) ?? "Choose the one that you like, then Paint"
  redraw(progress.controls, [job.state], () =>
    over(job)
      ? [
          button("Use its settings", () => adopt(job)),
          button(
            "Delete…",
            () =>
              confirm("Delete these variations for good?") &&
              ask(`jobs/${job.id}`, { method: "DELETE" }),
          ),
        ]
      : [stopButton(job)],
  )
}

/** Width to height of a photograph; undefined until the server has told it. */
function ratioOf(id) {
  if (!ratios.has(id)) {
    ratios.set(id, undefined)
    const known = ratio => {
      ratios.set(id, ratio)
      draw()
    }
    ask(`pictures/${part(id)}`).then(
      ({ width, height }) => known(width / height),
      () => known(4 / 3),
    )
  }
  return ratios.get(id)
}

/** A table of the variations, by the one or two settings in which they differ. */
function variations(job) {
  const [across, down] = Object.keys(job.cells[0])
    .filter(name => name !== "there")
    .reverse()
    .map(name => axisOf(job, name))
  const cell = (column, row) => {
    const index = job.cells.findIndex(
      one => one[across.name] === column && (!down || one[down.name] === row),
    )
    const label = [down?.label(row), across.label(column)]
      .filter(Boolean)
      .join(", ")
      .replaceAll("\n", " ")
    if (!job.cells[index].there)
      return make(
        "td",
        {},
        make("span", { class: "blank", role: "img", "aria-label": `${label}: not painted yet` }),
      )
    return make(
      "td",
      {},
      button(
        make("img", { alt: label, src: `jobs/${job.id}/cells/${index}` }),
        async () => {
          const pictures = asked.get(job.id)
          if (pictures !== picturesOf(form.settings())) await adopt(job)
          shown.cell = index
          form.choose(job.cells[index])
          draw()
          easel.querySelector("[aria-pressed=true]").focus()
        },
        { "aria-pressed": String(shown.cell === index), class: "cell" },
      ),
    )
  }
  return make(
    "table",
    { class: "variations" },
    make(
      "caption",
      {},
      [down && `${down.title} ↓`, `${across.title} →`].filter(Boolean).join("   "),
    ),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        down ? make("td") : null,
        ...across.values.map(value => make("th", { scope: "col" }, across.label(value))),
      ),
    ),
    make(
      "tbody",
      {},
      ...(down?.values ?? [null]).map(row =>
        make(
          "tr",
          {},
          down ? make("th", { scope: "row" }, down.label(row)) : null,
          ...across.values.map(column => cell(column, row)),
        ),
      ),
    ),
  )
}

/** A setting of variations, in the words of its slider. */
function axisOf(job, name) {
  const values = [...new Set(job.cells.map(cell => cell[name]))]
  const [title, low, high] = AXES[name] ?? [name, "less", "more"]
  const middle = values[Math.floor(values.length / 2)]
  const word = value => (value < middle ? low : value > middle ? high : "as chosen")
  return { name, title, values, label: value => `${word(value)}\n${number(value)}` }
}

const picturesOf = ({ content, styles }) => JSON.stringify([content, styles])

/** Take the settings over that variations were painted around. */
async function adopt(job) {
  await form.load(await ask(`jobs/${job.id}/settings`))
  asked.set(job.id, picturesOf(form.settings()))
}

/** What went wrong with a job; null if nothing did. */
function outcome(job) {
  if (job.state === "failed") return `Not painted: ${job.message}`
  if (job.state === "stopped") return "Stopped"
  return null
}

function stopButton(job) {
  const text =
    job.state === "waiting" ? "Remove" : job.state === "stopping" ? "Stop at once" : "Stop"
  const help =
    job.state === "painting" && job.kind === "picture"
      ? "Stops after this step; what is painted is kept"
      : null
  return button(text, () => ask(`jobs/${job.id}`, { method: "DELETE" }), { title: help })
}

function drawPainting() {
  const job = findJob(shown.job)
  if (live?.id !== job.id) {
    live = new LiveView(one => `jobs/${one.id}/frame?n=${one.frame}`)
    live.id = job.id
  }
  paintEasel(["painting", job.id], () => [live.easel, live.caption])
  live.update(job)
  redraw(live.progress.controls, [job.state], () => (over(job) ? [] : [stopButton(job)]))
}

function drawResult() {
  const result = findResult(shown.result)
  const others = state.history.filter(other => other.seen && other.name !== result.name)
  if (
    shown.against &&
    shown.against !== "before" &&
    !others.some(other => other.name === shown.against)
  )
    shown.against = ""
  paintEasel(["result", result, shown.against, others.map(other => other.name)], () => [
    [resultPicture(result)],
    [resultTools(result, others)],
  ])
}

function resultPicture(result) {
  if (!result.seen)
    return make(
      "p",
      { class: "wait" },
      result.state === "stopped" ? "Stopped before there was anything to see" : "Not painted yet",
    )
  const after = {
    source: address(result, "view"),
    alt: `The painting ${result.name}`,
    label: result.name,
  }
  if (shown.against === "before") {
    return compare(
      { source: address(result, "before"), alt: "The photograph", label: "before" },
      { ...after, label: "after" },
    )
  }
  const other = findResult(shown.against)
  if (other)
    return compare(
      { source: address(other, "view"), alt: `The painting ${other.name}`, label: other.name },
      after,
    )
  return framed(after.source, after.alt)
}

function resultTools(result, others) {
  const select = make(
    "select",
    { id: "against" },
    make("option", { value: "" }, "nothing"),
    result.before ? make("option", { value: "before" }, "the photograph") : null,
    ...others.map(other => make("option", { value: other.name }, other.name)),
  )
  select.value = shown.against
  select.addEventListener("change", () => {
    shown.against = select.value
    draw()
    get("#against").focus()
  })
  const link = (text, kind) =>
    make("a", { class: "button", href: address(result, kind), download: "" }, text)
  const about = [
    result.state === "stopped" ? "Stopped on the way" : result.recipe,
    result.size?.join(" × "),
    result.seconds && duration(result.seconds),
  ]
  const done = result.state === "done"
  const command = make("code", {}, result.command)
  return make(
    "div",
    { class: "result" },
    make(
      "p",
      { class: "where" },
      make("b", {}, result.name),
      ` ${about.filter(Boolean).join(" · ")}`,
    ),
    result.diverged
      ? make(
          "p",
          { class: "where failed" },
          "A step was not finite; this is the last finite picture",
        )
      : null,
    make(
      "div",
      { class: "row" },
      result.seen ? make("label", { class: "field" }, "Compare with ", select) : null,
      result.seen ? link(done ? result.name.split(".").pop().toUpperCase() : "PNG", "file") : null,
      done && !result.name.match(/\.tiff?$/) ? link("TIFF", "tiff") : null,
      done ? link("Manifest", "manifest") : null,
      result.resumable ? button("Resume", () => resume(result), { class: "main" }) : null,
      result.settings
        ? button("Use its settings", async () => {
            await form.load(result.settings)
            tell(`The settings of ${result.name} are taken over`)
          })
        : null,
      button("Delete…", () => remove(result)),
    ),
    make(
      "details",
      {},
      make("summary", {}, "The command that paints the same"),
      make(
        "div",
        { class: "row command" },
        command,
        button("Copy", event => copy(event.currentTarget, result.command)),
      ),
    ),
  )
}

async function copy(target, text) {
  await navigator.clipboard.writeText(text)
  target.textContent = "Copied"
}

async function resume(result) {
  const job = await send(`history/${part(result.name)}/resume`, {})
  await refreshed(job.id)
  shown.job = job.id
  show("painting")
}

/** Wait until the server has told of a job. */
async function refreshed(id) {
  for (let i = 0; i < 40 && !findJob(id); i++) await new Promise(later => setTimeout(later, 50))
}

async function remove(result) {
  if (!confirm(`Delete ${result.name} for good?`)) return
  await ask(`history/${part(result.name)}`, { method: "DELETE" })
}

// ---- queue and history

function drawStatus() {
  const now = state.jobs.find(busy),
    waiting = state.jobs.filter(job => job.state === "waiting").length
  const percent = now?.now && !document.hidden ? ` ${Math.round(now.now.done * 100)} %` : ""
  const rest = waiting ? `; ${waiting} more wait${waiting === 1 ? "s" : ""}` : ""
  const text = now
    ? `Painting ${now.kind === "preview" ? "variations of " : ""}${now.name}${rest}`
    : ""
  if (get("#status").textContent !== text) get("#status").textContent = text
  document.title = now ? `${percent || "…"} jaxnst studio`.trim() : "jaxnst studio"
}

function drawStrip() {
  const jobs = state.jobs.filter(job => !over(job))
  const names = new Set(jobs.map(job => job.name))
  const groups = state.jobs.filter(
    job => job.kind === "preview" && over(job) && job.cells.some(cell => cell.there),
  )
  const results = [...state.history.filter(result => !names.has(result.name)), ...groups].sort(
    (a, b) => b.time - a.time,
  )
  const ofJob = job => [
    job.id,
    job.state,
    job.place,
    Math.round((job.now?.done ?? 0) * 100),
    job.kind === "picture" && job.frame,
    shown.view,
    [shown.job, shown.preview].includes(job.id),
  ]
  const ofGroup = job => [
    job.id,
    job.cells,
    shown.view === "variations" && shown.preview === job.id,
  ]
  const ofResult = result => [
    result.name,
    result.state,
    result.time,
    result.version,
    shown.view === "result" && shown.result === result.name,
  ]
  const entries = [
    ...jobs.map(job => [JSON.stringify(ofJob(job)), () => jobCard(job)]),
    ...results.map(result =>
      result.cells
        ? [JSON.stringify(ofGroup(result)), () => groupCard(result)]
        : [JSON.stringify(ofResult(result)), () => resultCard(result)],
    ),
  ]
  const none = () => make("li", { class: "none" }, "Results appear here, and are kept in a folder.")
  redrawList(get("#strip"), entries.length ? entries : [["none", none]])
}

function jobCard(job) {
  const text =
    job.state === "waiting"
      ? `waits, number ${job.place}`
      : job.now
        ? `${Math.round(job.now.done * 100)} %`
        : "starts"
  const current =
    shown.view === (job.kind === "preview" ? "variations" : "painting") &&
    [shown.job, shown.preview].includes(job.id)
  const image =
    job.kind === "picture" && job.frame
      ? make("img", { alt: "", src: `jobs/${job.id}/frame?n=${job.frame}` })
      : make("span", { class: "blank" })
  const open = card(
    image,
    job.name,
    job.kind === "preview" ? `variations, ${text}` : text,
    current,
    () => {
      if (job.kind === "preview") Object.assign(shown, { preview: job.id, cell: null })
      else shown.job = job.id
      show(job.kind === "preview" ? "variations" : "painting")
    },
  )
  return make("li", { class: "job" }, open, job.state === "waiting" ? stopButton(job) : null)
}

function resultCard(result) {
  const image = result.seen
    ? make("img", { alt: "", loading: "lazy", src: address(result, "thumb") })
    : make("span", { class: "blank" })
  const current = shown.view === "result" && shown.result === result.name
  const text =
    result.state === "done"
      ? moment(result.time)
      : result.state === "stopped"
        ? `stopped, ${moment(result.time, {})}`
        : "not painted"
  return make(
    "li",
    {},
    card(image, result.name, text, current, () => {
      Object.assign(shown, { result: result.name })
      show("result")
    }),
  )
}

/** Variations that are painted, as one card. */
function groupCard(job) {
  const images = job.cells.flatMap((cell, i) =>
    cell.there ? [make("img", { alt: "", loading: "lazy", src: `jobs/${job.id}/cells/${i}` })] : [],
  )
  const current = shown.view === "variations" && shown.preview === job.id
  const open = card(
    make("span", { class: "mosaic" }, ...images),
    job.name,
    moment(job.time),
    current,
    () => {
      if (shown.preview !== job.id) Object.assign(shown, { preview: job.id, cell: null })
      show("variations")
    },
  )
  open.append(make("span", { class: "tag" }, `${images.length} variations`))
  return make("li", { class: "group" }, open)
}

function card(image, name, text, current, open) {
  const found = button(image, open, {
    class: "card",
    title: name,
    "aria-current": current ? "true" : null,
  })
  found.append(named(name), make("small", {}, text))
  return found
}

const moment = (seconds, day = { month: "short", day: "numeric" }) =>
  new Date(seconds * 1000).toLocaleString([], {
    ...day,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  })

// ---- actions

async function start(kind) {
  const why = form.missing()
  if (why) throw new Error(why)
  const wrong = await form.check()
  if (wrong) return wrong.focus()
  const job = await send("jobs", { kind, settings: form.settings() })
  await refreshed(job.id)
  if (kind === "preview") {
    Object.assign(shown, { preview: job.id, cell: null })
    asked.set(job.id, picturesOf(form.settings()))
  } else shown.job = job.id
  shown.view = kind === "preview" ? "variations" : "painting"
  const now = findJob(job.id)
  if (now && over(now)) goToResult(now) // it was quick
  show(shown.view)
}

function drawMask(picture, about, use) {
  brush = new Brush(picture, view(picture.id), about, async blob => {
    brush = null
    if (blob) await run(() => use(blob))
    draw()
    get("#add-region").focus()
  })
  show("photograph")
  brush.canvas.focus()
}

/** From a picture that is finished, where it was watched, to its result. */
function goToResult(job) {
  const watched = job.kind === "picture" && job.id === shown.job && shown.view === "painting"
  if (watched && job.state !== "failed" && findResult(job.name)) {
    Object.assign(shown, { result: job.name, view: "result", against: "" })
  }
}

/** Take up what the server tells of changes, see `news.py`. */
function merge(news) {
  const jobs = new Map(state.jobs.map(job => [job.id, job]))
  for (const { terms, ...fields } of news.jobs ?? []) {
    const job = Object.assign(jobs.get(fields.id) ?? { terms: [] }, fields)
    if (terms) job.terms = [...job.terms.slice(0, terms.from), ...terms.points]
    jobs.set(job.id, job)
  }
  const order = news.order ?? [...jobs.keys()]
  state.jobs = order.map(id => jobs.get(id)).filter(Boolean)
  if (!news.history && !news.gone) return
  const results = new Map(state.history.map(result => [result.name, result]))
  for (const result of news.history ?? []) results.set(result.name, result)
  for (const name of news.gone ?? []) results.delete(name)
  state.history = [...results.values()].sort(
    (a, b) => b.time - a.time || (a.name < b.name ? -1 : 1),
  )
}

/** Take up what is new; follow a picture that is finished to its result. */
function take(news) {
  const before = new Map(state.jobs.map(job => [job.id, job.state]))
  merge(news)
  for (const job of state.jobs) {
    const ended = over(job) && before.has(job.id) && before.get(job.id) !== job.state
    const seen =
      (shown.view === "painting" && shown.job === job.id) ||
      (shown.view === "variations" && shown.preview === job.id)
    if (ended && job.state === "failed" && !seen)
      complain(`${job.name} was not painted: ${job.message}`)
    if (ended) goToResult(job)
  }
  draw()
}

/** All results at once; from then on the server tells of changes. */
async function fetchHistory() {
  const { revision, results } = await ask("history")
  state.revision = revision
  merge({ history: results })
}

function followServer() {
  const news = (event, _end, id) => {
    document.body.classList.remove("lost")
    state.revision = id || state.revision
    take(event)
  }
  const lost = () => {
    document.body.classList.add("lost")
    get("#status").textContent = "The studio does not answer; trying again"
  }
  follow(() => `events?since=${state.revision}`, news, lost)
  document.addEventListener("visibilitychange", drawStatus) // without a percentage that stands still
  setInterval(() => {
    // counts seconds, while the server tells what happens
    if (state.jobs.some(busy) && !document.body.classList.contains("lost")) draw()
  }, 1000)
}

function listen() {
  get("#panel").addEventListener("submit", event => {
    event.preventDefault()
    run(() => start("picture"))
  })
  get("#preview").addEventListener("click", () => run(() => start("preview")))
  get("#problem button").addEventListener("click", () => complain(""))
  const drop = event => {
    if (![...event.dataTransfer.types].includes("Files")) return
    event.preventDefault()
    document.body.classList.toggle("dropping", event.type === "dragover")
    if (event.type !== "drop") return
    const style = event.target.closest?.("#panel") && form.content
    form.take([...event.dataTransfer.files], picture =>
      style || (form.content && !event.target.closest?.("#stage"))
        ? form.addStyle(picture)
        : form.setContent(picture),
    )
  }
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, drop)
}

const [options] = await Promise.all([ask("options"), fetchHistory()])
form = new Form(options, {
  drawMask,
  changed: () => shown.view === "photograph" && draw(),
  showPhotograph: () => {
    brush = null
    show("photograph")
  },
})
listen()
form.update()
await form.restore()
draw()
followServer()
document.documentElement.dataset.ready = "true"
