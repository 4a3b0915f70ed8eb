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
  const all = [...results, ...groups].sort((a, b) => b.time - a.time)
  const shown = { variations: state.preview, painting: state.job, result: state.result }[view]
  return html`
    <ul id="strip">
      ${jobs.map(job => html`<${JobCard} key=${job.id} job=${job} current=${job.id === shown} />`)}
      ${all.map(one =>
        one.cells
          ? html`<${GroupCard} key=${one.id} job=${one} current=${one.id === shown} />`
          : html`<${ResultCard} key=${one.name} result=${one} current=${one.name === shown} />`,
      )}
      ${!jobs.length && !all.length && html`<li class="none">Results appear here, and are kept in a folder.</li>`}
    </ul>`
}

const Card = ({ name, text, current, open, children }) => html`
  <button type="button" class="card" title=${name} aria-current=${current ? "true" : null} onClick=${open}>
    ${children}<${Named} name=${name} /><small>${text}</small>
  </button>`

function JobCard({ job, current }) {
  const preview = job.kind === "preview"
  const where = job.now ? `${Math.round(job.now.done * 100)} %` : "starts"
  const text = job.state === "waiting" ? `queued, number ${job.place}` : where
  const open = () => (preview ? showPreview(job.id) : show("painting", { job: job.id }))
  return html`
    <li class="job">
      <${Card} name=${job.name} text=${preview ? `variations, ${text}` : text} current=${current} open=${open}>
        ${
          !preview && job.frame
            ? html`<img alt="" src=${`jobs/${job.id}/frame?n=${job.frame}`} />`
            : html`<span class="blank" />`
        }
      <//>
      ${job.state === "waiting" && html`<${StopButton} job=${job} />`}
    </li>`
}

function ResultCard({ result, current }) {
  const { name, seen, state: end, time } = result
  const text = { done: moment(time), stopped: `stopped, ${moment(time, {})}` }[end] ?? "not painted"
  return html`
    <li>
      <${Card} name=${name} text=${text} current=${current} open=${() => show("result", { result: name })}>
        ${
          seen
            ? html`<img alt="" loading="lazy" src=${address(result, "thumb")} />`
            : html`<span class="blank" />`
        }
      <//>
    </li>`
}

/** Variations that are painted, as one card. */
function GroupCard({ job, current }) {
  const there = job.cells.flatMap((cell, i) => (cell.there ? [i] : []))
  return html`
    <li class="group">
      <${Card} name=${job.name} text=${moment(job.time)} current=${current} open=${() => showPreview(job.id)}>
        <span class="mosaic">
          ${there.map(i => html`<img key=${i} alt="" loading="lazy" src=${`jobs/${job.id}/cells/${i}`} />`)}
        </span>
        <span class="tag">${there.length} variations</span>
      <//>
    </li>`
}

const moment = (seconds, day = { month: "short", day: "numeric" }) =>
  new Date(seconds * 1000).toLocaleString([], {
    ...day,
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
    hourCycle: "h23",
  })
