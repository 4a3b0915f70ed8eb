// The page: draws the state of the store, and listens to the server.

import { ask, follow, html } from "./base.js"
import { busy } from "./live.js"
import { Panel } from "./panel.js"
import { held } from "./settings.js"
import * as store from "./store.js"
import { Strip } from "./strip.js"
import { render } from "./vendor/preact-11.2.0.js"
import { Stage } from "./views.js"

const { state } = store

function Page() {
  const there = store.views()
  const view = there.some(([name]) => name === state.view) ? state.view : "photograph"
  const tab = ([name, text]) => html`
    <button key=${name} type="button" aria-pressed=${String(name === view)}
      onClick=${() => store.show(name)}>${text}</button>`
  return html`
    <a class="skip" href="#panel">Skip to the settings</a>
    <header>
      <h1>jaxnst <span>studio</span></h1>
      <nav id="views" aria-label="What the picture shows">${there.map(tab)}</nav>
      <p id="status" role="status">${statusText()}</p>
    </header>
    ${
      state.problem &&
      html`<p id="problem" role="alert" class=${state.problem.kind}>
      <span>${state.problem.text}</span>
      <button type="button" aria-label="Dismiss" onClick=${() => store.set({ problem: null })}>✕</button></p>`
    }
    <main>
      <section id="stage" aria-label="Picture"><${Stage} name=${view} /></section>
      <section id="history" aria-label="Results"><${Strip} view=${view} /></section>
      <${Panel} />
    </main>`
}

function statusText() {
  if (state.lost) return "The studio does not answer; trying again"
  const now = state.jobs.find(busy)
  const waiting = state.jobs.filter(job => job.state === "waiting").length
  const what = now?.kind === "preview" ? "variations of " : ""
  return now ? `Painting ${what}${now.name}${waiting ? `; ${waiting} more queued` : ""}` : ""
}

/** The title, with the percentage that is painted while the page is visible. */
function title() {
  const now = state.jobs.find(busy)
  const share = now?.now && !document.hidden ? `${Math.round(now.now.done * 100)} %` : "…"
  return now ? `${share} jaxnst studio` : "jaxnst studio"
}

function draw() {
  document.title = title()
  render(html`<${Page} />`, document.body)
}

function drop(event) {
  if (!event.dataTransfer.types.includes("Files")) return
  event.preventDefault()
  document.body.classList.toggle("dropping", event.type === "dragover")
  if (event.type !== "drop") return
  const onPanel = event.target.closest?.("#panel")
  const onStage = event.target.closest?.("#stage")
  store.take([...event.dataTransfer.files], picture =>
    state.settings.content && (onPanel || !onStage)
      ? store.addStyle(picture)
      : store.setContent(picture),
  )
}

const [options, history] = await Promise.all([ask("options"), ask("history")])
for (const picture of options.samples) state.pictures[picture.id] = picture
Object.assign(state, { options, settings: held({}, options), revision: history.revision })
store.merge({ history: history.results })
store.drawBy(draw)
await store.restore()
follow(
  () => `events?since=${state.revision}`,
  (news, _end, revision) => {
    Object.assign(state, { lost: false, revision: revision || state.revision })
    store.takeNews(news)
  },
  () => store.set({ lost: true }),
)
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, drop)
document.addEventListener("visibilitychange", draw)
setInterval(() => state.jobs.some(busy) && !state.lost && draw(), 1000) // counts seconds
document.documentElement.dataset.ready = "true"
