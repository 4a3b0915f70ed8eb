// A run while it is painted: the latest picture, the progress and the losses.

import { duration, Frame, html, number, view } from "./base.js"
import { Component } from "./vendor/preact-11.2.0.js"

const TERMS = { content: "photograph", style: "paintings", tv: "smoothness" }

export const busy = job => job.state === "painting" || job.state === "stopping"
export const over = job => !busy(job) && job.state !== "waiting"

/** The progress of a run as text, some seconds after its last event. */
export function progressText(job, seconds = 0) {
  const { now } = job
  if (job.state === "failed") return `Failed: ${job.message}`
  if (job.state === "waiting") return `Queued, number ${job.place}`
  const cells = job.cells ?? []
  const painted = cells.length
    ? `${cells.filter(cell => cell.there).length} of ${cells.length} painted · `
    : ""
  const left =
    now?.left && job.state === "painting" ? `, about ${duration(now.left - seconds)} left` : ""
  const stopping = job.state === "stopping" ? "Stopping after this step: " : ""
  if (!now || job.doing) {
    const soFar = job.doing && !now && seconds > 1 ? `, ${seconds} s so far` : ""
    return `${stopping}${painted}${job.doing || "Starting"}${left}${soFar}`
  }
  const scale = now.scales > 1 ? `scale ${now.scale + 1} of ${now.scales}, ` : ""
  const step = `${scale}step ${now.step} of ${now.steps}`
  return `${stopping}${painted}${now.size.join(" × ")} px, ${step}${left}`
}

/** The progress of a job as bar and text, with buttons; `job.since` is the last event's time. */
export function Progress({ job, text, children }) {
  const { now, since } = job
  const seconds = Math.round((Date.now() - since) / 1000)
  // There are no events while patches are placed, so the bar continues at its earlier pace.
  const ahead = now && now.done + ((1 - now.done) * seconds) / (now.left || Infinity)
  return html`
    <div class="progress">
      ${
        !over(job) &&
        html`<progress max="1" aria-label="Progress"
        value=${now ? Math.min(now.next ?? now.done, ahead) : undefined} />`
      }
      <div class="between">
        <div>
          <p class="where">${text ?? progressText(job, seconds)}</p>
          ${!over(job) && job.weights && html`<small>With the ${job.weights}</small>`}
        </div>
        <div class="row">${children}</div>
      </div>
    </div>`
}

/** A run, whose frames are at `frameOf(number)`; children are its buttons. */
export class Live extends Component {
  state = { source: null, frames: 0 }
  newest = 0

  componentDidMount = this.load
  componentDidUpdate = this.load

  /** Load the latest frame, then show it in place of the previous one. */
  async load() {
    const { job, frameOf } = this.props
    if (job.frame <= this.newest) return
    this.newest = job.frame
    const next = Object.assign(new Image(), { src: frameOf(job.frame) })
    const show = () => this.setState(({ frames }) => ({ source: next.src, frames: frames + 1 }))
    await next.decode().then(show, () => {}) // if this fails, the next frame will come
  }

  render({ job, children }, { source, frames }) {
    const shown = source ?? (job.content && view(job.content)) // the photograph, faintly
    const failed = job.state === "failed"
    const when = job.state === "waiting" ? "when its turn comes" : "after the first step"
    const end = failed ? progressText(job) : "Stopped before the first steps"
    const wait = over(job) ? end : `The picture appears here ${when}`
    return html`
      <div id="easel">
        ${
          shown &&
          html`<${Frame} kind=${source ? "" : "faint"} data-frames=${frames}>
          <img alt=${source ? "The picture so far" : ""} src=${shown} /><//>`
        }
        ${!source && html`<p class=${failed ? "wait failed" : "wait"}>${wait}</p>`}
      </div>
      <div id="caption">
        <${Progress} job=${job} text=${over(job) && !failed ? "" : null}>${children}<//>
        <${Plot} terms=${job.terms} />
      </div>`
  }
}

/** The terms as shares of the loss at the start, on a log axis; lines divide the scales. */
function Plot({ terms }) {
  const names = Object.keys(terms[0] ?? {}).filter(
    name => name !== "scale" && terms.some(point => point[name] > 0),
  )
  const logs = terms
    .flatMap(point => names.map(name => point[name]))
    .filter(x => x > 0)
    .map(Math.log10)
  if (terms.length < 2 || !logs.length) return null
  const start = names.reduce((sum, name) => sum + (terms[0][name] ?? 0), 0)
  const high = Math.max(...logs)
  const low = Math.max(Math.min(...logs), high - 4)
  const x = i => ((100 * i) / (terms.length - 1)).toFixed(2)
  const starts = terms.flatMap(({ scale }, i) => (i && scale !== terms[i - 1].scale ? [x(i)] : []))
  const y = value =>
    (38 - 36 * ((Math.max(Math.log10(value), low) - low) / (high - low || 1))).toFixed(2)
  const line = name =>
    terms.flatMap((point, i) => (point[name] > 0 ? [`${x(i)},${y(point[name])}`] : [])).join(" ")
  const share = value => {
    if (!(value >= 0 && start)) return "–"
    return value && value < start / 1000 ? "< 0.1 %" : `${number((100 * value) / start)} %`
  }
  return html`
    <figure class="plot">
      <svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="Terms of the loss over the steps">
        ${starts.map(at => html`<line class="divide" x1=${at} x2=${at} y1="0" y2="40" />`)}
        ${names.map((name, i) => html`<polyline class=${`term term-${i}`} points=${line(name)} />`)}
      </svg>
      <figcaption>
        <small>Of the loss at the start</small>
        ${names.map(
          (name, i) => html`<span class=${`term-${i}`}>
          <i aria-hidden="true" />${TERMS[name] ?? name} ${share(terms.at(-1)[name])}</span>`,
        )}
      </figcaption>
    </figure>`
}
