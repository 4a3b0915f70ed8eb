// The strip of jobs and results, the newest first.

import { html, Named } from "./base.js"
import { over } from "./live.js"
import { show, showPreview, state } from "./store.js"
import { Component } from "./vendor/preact-11.2.0.js"
import { address, StopButton } from "./views.js"

export function Strip({ view }) {
  const jobs = state.jobs.filter(job => !over(job))
  const names = new Set(jobs.map(job => job.name))
  const groups = state.jobs.filter(job => over(job) && job.cells.some(cell => cell.there))
  const results = state.results.filter(result => !names.has(result.name))
  const before = [...results, ...groups].sort((a, b) => b.time - a.time)
  const current = { variations: state.preview, painting: state.job, result: state.result }[view]
  const card = one => {
    const key = one.id ?? one.name
    return html`<${Card} key=${key} one=${one} current=${key === current} />`
  }
  const none = html`<li class="none">Results appear here, and are kept in a folder.</li>`
  return html`<ul id="strip">${jobs.length + before.length ? [...jobs, ...before].map(card) : none}</ul>`
}

/** A card of a job, of variations that are painted, or of a result. */
class Card extends Component {
  shouldComponentUpdate({ one, current }) {
    return one !== this.props.one || current !== this.props.current // there may be thousands
  }

  render({ one, current }) {
    const about = !one.kind ? aboutResult : over(one) ? aboutGroup : aboutJob
    const { kind, text, picture, more, open } = about(one)
    return html`
      <li class=${kind}>
        <button type="button" class="card" title=${one.name} aria-current=${current ? "true" : null} onClick=${open}>
          ${picture ?? html`<span class="blank" />`}<${Named} name=${one.name} /><small>${text}</small>
        </button>
        ${more}
      </li>`
  }
}

const thumbnail = source => html`<img alt="" loading="lazy" src=${source} />`

function aboutJob(job) {
  const preview = job.kind === "preview"
  const done = job.now ? `${Math.round(job.now.done * 100)} %` : "starts"
  const text = job.state === "waiting" ? `queued, number ${job.place}` : done
  return {
    kind: "job",
    text: preview ? `variations, ${text}` : text,
    picture: !preview && job.frame ? thumbnail(`jobs/${job.id}/frame?n=${job.frame}`) : null,
    more: job.state === "waiting" && html`<${StopButton} job=${job} />`,
    open: () => (preview ? showPreview(job.id) : show("painting", { job: job.id })),
  }
}

function aboutGroup({ id, time, cells }) {
  const there = cells.flatMap((cell, i) => (cell.there ? [`jobs/${id}/cells/${i}`] : []))
  return {
    kind: "group",
    text: moment(time),
    picture: html`<span class="mosaic">${there.map(thumbnail)}</span>
      <span class="tag">${there.length} variations</span>`,
    open: () => showPreview(id),
  }
}

function aboutResult(result) {
  const { name, seen, time } = result
  const ends = { done: moment(time), stopped: `stopped, ${clock(time)}` }
  return {
    text: ends[result.state] ?? "not painted",
    picture: seen ? thumbnail(address(result, "thumb")) : null,
    open: () => show("result", { result: name }),
  }
}

// A formatter takes long to make, and there may be thousands of results.
const formatter = parts => {
  const { format } = new Intl.DateTimeFormat([], parts)
  return seconds => format(new Date(seconds * 1000))
}
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }
const clock = formatter(CLOCK)
const moment = formatter({ ...CLOCK, month: "short", day: "numeric" })
