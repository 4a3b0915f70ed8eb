// The strip of what is painted and what was, the newest first.

import { html, Named } from "./base.js"
import { over } from "./live.js"
import { show, showPreview, state } from "./store.js"
import { address, StopButton } from "./views.js"

export function Strip({ view }) {
  const jobs = state.jobs.filter(job => !over(job))
  const names = new Set(jobs.map(job => job.name))
  const groups = state.jobs.filter(job => over(job) && job.cells.some(cell => cell.there))
  const results = state.results.filter(result => !names.has(result.name))
  const before = [...results, ...groups].sort((a, b) => b.time - a.time)
  const cards = [
    ...jobs.map(jobCard),
    ...before.map(one => (one.cells ? groupCard(one) : resultCard(one))),
  ]
  const current = { variations: state.preview, painting: state.job, result: state.result }[view]
  return html`
    <ul id="strip">
      ${cards.map(card => html`<${Card} ...${card} current=${card.key === current} />`)}
      ${!cards.length && html`<li class="none">Results appear here, and are kept in a folder.</li>`}
    </ul>`
}

const Card = ({ kind, name, text, picture, more, open, current }) => html`
  <li class=${kind}>
    <button type="button" class="card" title=${name} aria-current=${current ? "true" : null} onClick=${open}>
      ${picture ?? html`<span class="blank" />`}<${Named} name=${name} /><small>${text}</small>
    </button>
    ${more}
  </li>`

const thumbnail = source => html`<img alt="" loading="lazy" src=${source} />`

function jobCard(job) {
  const { id, name } = job
  const preview = job.kind === "preview"
  const done = job.now ? `${Math.round(job.now.done * 100)} %` : "starts"
  const text = job.state === "waiting" ? `queued, number ${job.place}` : done
  return {
    key: id,
    kind: "job",
    name,
    text: preview ? `variations, ${text}` : text,
    picture: !preview && job.frame ? thumbnail(`jobs/${id}/frame?n=${job.frame}`) : null,
    more: job.state === "waiting" && html`<${StopButton} job=${job} />`,
    open: () => (preview ? showPreview(id) : show("painting", { job: id })),
  }
}

function resultCard(result) {
  const { name, seen, time } = result
  const ends = { done: moment(time), stopped: `stopped, ${moment(time, {})}` }
  return {
    key: name,
    name,
    text: ends[result.state] ?? "not painted",
    picture: seen ? thumbnail(address(result, "thumb")) : null,
    open: () => show("result", { result: name }),
  }
}

/** Variations that are painted, as one card. */
function groupCard({ id, name, time, cells }) {
  const there = cells.flatMap((cell, i) => (cell.there ? [`jobs/${id}/cells/${i}`] : []))
  return {
    key: id,
    kind: "group",
    name,
    text: moment(time),
    picture: html`<span class="mosaic">${there.map(thumbnail)}</span>
      <span class="tag">${there.length} variations</span>`,
    open: () => showPreview(id),
  }
}

const moment = (seconds, day = { month: "short", day: "numeric" }) =>
  new Date(seconds * 1000).toLocaleString([], {
    ...day,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  })
