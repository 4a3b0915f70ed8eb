// The state of the page in one object, and all functions that change it.

import { ask, part, send } from "./base.js"
import { over } from "./live.js"
import { FIELDS, held, idOf, missing, picturesOf, sent, slid } from "./settings.js"

const KEPT = "jaxnst-settings"

export const state = {
  options: null, // what the server offers
  settings: null, // what is chosen, see settings.js
  pictures: {}, // names and sizes of pictures, by their ids on the server
  jobs: [],
  results: [],
  revision: 0, // of the results
  lost: false, // whether the server does not answer
  view: "photograph", // or variations (of preview), painting (of job), result
  preview: null,
  cell: null, // the variation that is chosen
  job: null,
  result: null,
  against: "", // what the result is compared with
  asked: {}, // photograph and paintings of each preview, by its id
  brush: null, // the mask that is being drawn
  wrong: {}, // problems of settings, by their names
  idle: [], // sliders that have no effect
  open: {}, // parts of the panel that are unfolded
  problem: null, // message for the user
}

let draw = () => {}

/** Draw the page by `call`, now and after every change. */
export function drawBy(call) {
  draw = call
  draw()
}

/** Change what is shown. */
export function set(changes) {
  Object.assign(state, changes)
  draw()
}

/** Show an error until it is dismissed, or until the next action. */
export const complain = text => set({ problem: { text, kind: "wrong" } })

const tell = text => set({ problem: { text } })

/** An event handler that makes a call, and shows its error if it fails. */
export const act = call => async event => {
  set({ problem: null })
  try {
    await call(event)
  } catch (error) {
    complain(error.message)
  }
}

export const findJob = id => state.jobs.find(job => job.id === id)
export const findResult = name => state.results.find(result => result.name === name)

/** The views that have something to show. */
export const views = () =>
  [
    ["photograph", "Photograph", true],
    ["variations", "Variations", findJob(state.preview)],
    ["painting", "Painting", findJob(state.job)],
    ["result", "Result", findResult(state.result)],
  ].filter(([, , there]) => there)

/** Show a view, with changes that it needs. */
export function show(view, changes = {}) {
  set({ view, brush: view === "photograph" ? state.brush : null, ...changes })
  if (document.querySelector("#stage").getBoundingClientRect().top < 0) scrollTo({ top: 0 })
}

export const showPreview = id =>
  show("variations", { preview: id, ...(id !== state.preview && { cell: null }) })

// ---- what is chosen

/** Change settings, and keep them for a reload of the page. */
export function choose(changes) {
  state.settings = { ...state.settings, ...changes }
  if (state.settings.content) sessionStorage.setItem(KEPT, JSON.stringify(settings()))
  draw()
}

/** The settings as the server reads them. */
export const settings = () => sent(state.settings, state.options)

/** Choose settings in the server's form, such as those of a result. */
export async function load(settings) {
  const found = held(settings, state.options)
  await Promise.all(picturesOf(found, state.options).map(find))
  if (found.regions.length || found.content_mask) state.open = { ...state.open, regions: true }
  choose(found)
  await check().catch(() => {}) // reported again before painting
}

/** Restore the settings from before a reload of the page. */
export async function restore() {
  const kept = sessionStorage.getItem(KEPT)
  try {
    if (kept) await load(JSON.parse(kept))
  } catch {
    sessionStorage.removeItem(KEPT) // a picture of a studio that has ended
  }
}

/** Fetch the name and size of a picture. */
async function find(id) {
  state.pictures[id] ??= await ask(`pictures/${part(id)}`)
}

/** Fetch the shape of variations, or assume 4:3 if their photograph is gone. */
async function findShape(id) {
  await find(id).catch(() => {})
  state.pictures[id] ??= { id, name: id, width: 4, height: 3 }
  draw()
}

export function setContent({ id, name, width, height }) {
  const { content, regions, content_mask } = state.settings
  const before = state.pictures[content]
  state.pictures[id] = { id, name, width, height }
  choose({ content: id })
  show("photograph", { brush: null })
  if (!before || content === id || !(regions.length || content_mask)) return
  set({ open: { ...state.open, regions: true } })
  tell(
    `Masks drawn on ${before.name} are stretched over ${name}. Remove them under Regions if they do not fit.`,
  )
}

export function addStyle({ id }) {
  const { styles, blend } = state.settings
  const { most } = state.options
  if (styles.includes(id)) return
  if (styles.length >= most.styles) complain(`At most ${most.styles} paintings`)
  else choose({ styles: [...styles, id], blend: [...blend, 1] })
}

/** Upload files, one after the other; `use` gets each picture. */
export async function take(files, use) {
  const most = state.options.most.bytes
  set({ problem: null })
  document.body.classList.add("busy")
  for (const file of files) {
    try {
      if (file.size > most) {
        throw new Error(
          `${file.name} has ${Math.round(file.size / 1e6)} MB; at most ${most / 1e6} MB can be sent`,
        )
      }
      const picture = await ask(`pictures?name=${part(file.name)}`, { method: "POST", body: file })
      state.pictures[picture.id] = picture
      use(picture)
    } catch (error) {
      complain(error.message)
    }
  }
  document.body.classList.remove("busy")
}

/** Let the user choose a file, and upload it; returns the picture, or undefined. */
export async function pick() {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: accepted() })
  await new Promise(end => {
    for (const name of ["change", "cancel"]) input.addEventListener(name, end)
    input.click()
  })
  const found = []
  if (input.files.length) await take(input.files, picture => found.push(picture))
  return found[0]
}

export const accepted = () => ["image/*", ...state.options.suffixes].join()

/** Draw a mask on the photograph; `use` gets its name. */
export function drawMask(about, use) {
  if (!state.settings.content) return complain("Choose a photograph first")
  const done = async blob => {
    if (blob) await take([new File([blob], "mask.png")], ({ id }) => use(id))
    set({ brush: null })
    document.querySelector("#add-region").focus()
  }
  show("photograph", { brush: { about, done } })
}

export function addRegion() {
  const { regions, styles } = state.settings
  const { most, samples } = state.options
  if (regions.length >= most.regions) return complain(`At most ${most.regions} regions`)
  const used = [...styles, ...regions.flatMap(region => region.styles)]
  const paintings = samples.slice(1)
  const style = paintings.find(({ id }) => !used.includes(id)) ?? paintings[0]
  drawMask("Paint the region that gets another style", mask =>
    choose({ regions: [...regions, { mask, styles: [style.id] }] }),
  )
}

// ---- what is painted

/** Ask the server for problems; show them at their fields, or throw an error. */
export async function check() {
  const asked = state.settings
  const { wrong, idle } = await send("check", settings())
  if (asked !== state.settings) return
  const more = state.open.more || FIELDS.some(name => name !== "size" && wrong[name])
  set({ wrong, idle, open: { ...state.open, more } })
  const other = Object.keys(wrong).find(name => !FIELDS.includes(name))
  if (other) throw new Error(wrong[other])
}

/** Paint a picture, or a preview. */
export async function start(kind) {
  const why = missing(settings())
  if (why) throw new Error(why)
  await check()
  const first = FIELDS.find(name => state.wrong[name])
  if (first) return document.getElementById(idOf(first)).focus()
  const { id } = await send("jobs", { kind, settings: settings() })
  if (kind === "picture") return watch(id)
  state.asked[id] = painted()
  showPreview(id)
}

const painted = () => JSON.stringify([settings().content, settings().styles])

/** Show a picture while it is painted, or its result if it was quick. */
function watch(id) {
  show("painting", { job: id })
  const job = findJob(id)
  if (job && over(job)) goToResult(job)
}

/** Choose the settings that variations were painted around. */
export async function adopt(job) {
  await load(await ask(`jobs/${job.id}/settings`))
  state.asked[job.id] = painted()
}

/** Choose a variation, with its photograph and paintings. */
export async function chooseCell(job, index) {
  if (state.asked[job.id] !== painted()) await adopt(job)
  const { there, ...values } = job.cells[index]
  choose(slid(state.settings, values))
  set({ cell: index })
}

export const stop = job => ask(`jobs/${job.id}`, { method: "DELETE" })

export const removePreview = job => confirm("Delete these variations for good?") && stop(job)

export async function removeResult({ name }) {
  if (confirm(`Delete ${name} for good?`)) await ask(`history/${part(name)}`, { method: "DELETE" })
}

export async function resume({ name }) {
  const { id } = await send(`history/${part(name)}/resume`, {})
  watch(id)
}

export async function useSettings({ name, settings }) {
  await load(settings)
  tell(`The settings of ${name} are chosen now`)
}

/** Show the result of a finished picture, if its painting was shown. */
function goToResult({ id, kind, name, state: end }) {
  const watched = kind === "picture" && id === state.job && state.view === "painting"
  if (watched && end !== "failed" && findResult(name)) show("result", { result: name, against: "" })
}

// ---- what the server tells

/** Apply an event of `news.py`; for a picture that has finished, show its result. */
export function takeNews(news) {
  const before = new Map(state.jobs.map(job => [job.id, job.state]))
  merge(news)
  for (const job of state.jobs) {
    const shown = [state.job, state.preview].includes(job.id)
    if (!over(job) || before.get(job.id) === job.state || !(before.has(job.id) || shown)) continue
    const seen = shown && ["painting", "variations"].includes(state.view)
    if (job.state === "failed" && !seen) complain(`${job.name} failed: ${job.message}`)
    goToResult(job)
  }
  draw()
}

/** Merge an event into the state. */
export function merge(news) {
  const jobs = new Map(state.jobs.map(job => [job.id, job]))
  for (const { terms, ...fields } of news.jobs ?? []) {
    const job = { terms: [], ...jobs.get(fields.id), ...fields }
    if ("now" in fields || "doing" in fields) job.since = Date.now()
    job.weights = /weights .*/.exec(job.message)?.[0] ?? job.weights
    if (terms) job.terms = [...job.terms.slice(0, terms.from), ...terms.points]
    if (job.kind === "preview" && !jobs.has(job.id)) findShape(job.content)
    jobs.set(job.id, job)
  }
  state.jobs = (news.order ?? [...jobs.keys()]).flatMap(id => jobs.get(id) ?? [])
  if (!news.history && !news.gone) return
  const results = new Map(state.results.map(result => [result.name, result]))
  for (const result of news.history ?? []) results.set(result.name, result)
  for (const name of news.gone ?? []) results.delete(name)
  state.results = [...results.values()].sort(
    (a, b) => b.time - a.time || (a.name < b.name ? -1 : 1),
  )
}
