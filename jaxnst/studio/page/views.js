// What the stage shows: the photograph, variations, a run, or a result.

import { duration, Frame, html, number, part, view } from "./base.js"
import { Brush } from "./brush.js"
import { Compare } from "./compare.js"
import { Live, over, Progress, progressText } from "./live.js"
import { SLIDERS } from "./settings.js"
import * as store from "./store.js"

export const address = (result, kind) => `history/${part(result.name)}/${kind}?at=${result.version}`

/** A button that does something which the server may refuse. */
export const Button = ({ call, children, ...rest }) =>
  html`<button type="button" ...${rest} onClick=${store.act(call)}>${children}</button>`

/** The picture of a view, and what is below it. */
export function Stage({ name }) {
  const { brush, pictures, settings } = store.state
  const content = pictures[settings.content]
  if (name === "variations")
    return html`<${Variations} job=${store.findJob(store.state.preview)} />`
  if (name === "painting")
    return html`<${Painting} key=${store.state.job} job=${store.findJob(store.state.job)} />`
  if (name === "result")
    return html`<${Result} key=${store.state.result} result=${store.findResult(store.state.result)} />`
  if (brush) return html`<${Brush} picture=${content} ...${brush} />`
  return html`<${Photograph} picture=${content} />`
}

const Photograph = ({ picture }) => html`
  <div id="easel">
    ${
      picture
        ? html`<${Frame} key=${picture.id} style=${{ "--ratio": picture.width / picture.height }}>
          <img alt=${`The photograph ${picture.name}`} src=${view(picture.id)} /><//>`
        : html`<div class="empty">
          <h2>Drop a photograph here</h2>
          <p>Then choose a painting whose style it gets.</p>
          <div class="row">
            <button type="button" class="main"
              onClick=${() => document.querySelector("#content-file").click()}>Choose a photograph…</button>
            <button type="button" onClick=${trySamples}>Try the samples</button>
          </div>
        </div>`
    }
  </div>
  <div id="caption" />`

function trySamples() {
  const [photograph, painting] = store.state.options.samples
  store.setContent(photograph)
  if (!store.state.settings.styles.length) store.addStyle(painting)
}

const Painting = ({ job }) => html`
  <${Live} job=${job} frameOf=${number => `jobs/${job.id}/frame?n=${number}`}>
    ${!over(job) && html`<${StopButton} job=${job} />`}
  <//>`

export function StopButton({ job }) {
  const text = { waiting: "Remove", stopping: "Stop at once" }[job.state] ?? "Stop"
  const keeps = job.state === "painting" && job.kind === "picture"
  const title = keeps ? "Stops after this step and keeps the picture so far" : null
  return html`<${Button} call=${() => store.stop(job)} title=${title}>${text}<//>`
}

function Variations({ job }) {
  const { pictures, cell } = store.state
  const { width, height } = pictures[job.content] ?? {}
  const ends = {
    failed: progressText(job),
    stopped: "Stopped",
    done: "Choose the one that you like, then Paint",
  }
  return html`
    <div id="easel">${width && html`<${Table} job=${job} chosen=${cell} ratio=${width / height} />`}</div>
    <div id="caption">
      <${Progress} job=${job} text=${ends[job.state]}>
        ${
          over(job)
            ? html`<${Button} call=${() => store.adopt(job)}>Use its settings<//>
              <${Button} call=${() => store.removePreview(job)}>Delete…<//>`
            : html`<${StopButton} job=${job} />`
        }
      <//>
    </div>`
}

/** The variations by the one or two settings in which they differ. */
function Table({ job, chosen, ratio }) {
  const names = Object.keys(job.cells[0]).filter(name => name !== "there")
  const [across, down] = names.reverse().map(name => axisOf(job, name))
  const cellOf = (column, row) => {
    const index = job.cells.findIndex(
      cell => cell[across.name] === column && (!down || cell[down.name] === row),
    )
    const label = [down?.label(row), across.label(column)]
      .filter(Boolean)
      .join(", ")
      .replaceAll("\n", " ")
    return html`<td key=${column}>${
      job.cells[index].there
        ? html`<${Button} class="cell" aria-pressed=${String(chosen === index)} call=${() => store.chooseCell(job, index)}>
          <img alt=${label} src=${`jobs/${job.id}/cells/${index}`} /><//>`
        : html`<span class="blank" role="img" aria-label=${`${label}: not painted yet`} />`
    }</td>`
  }
  return html`
    <table class="variations" key=${job.id} style=${{ "--ratio": ratio }}>
      <caption>${down && `${down.title} ↓   `}${across.title} →</caption>
      <thead><tr>
        ${down && html`<td />`}
        ${across.values.map(value => html`<th scope="col">${across.label(value)}</th>`)}
      </tr></thead>
      <tbody>
        ${(down?.values ?? [null]).map(
          row => html`<tr>
          ${down && html`<th scope="row">${down.label(row)}</th>`}
          ${across.values.map(column => cellOf(column, row))}
        </tr>`,
        )}
      </tbody>
    </table>`
}

/** A setting of variations, in the words of its slider. */
function axisOf(job, name) {
  const values = [...new Set(job.cells.map(cell => cell[name]))]
  const { label: title, ends } = SLIDERS[name] ?? { label: name, ends: ["less", "more"] }
  const middle = values[Math.floor(values.length / 2)]
  const word = value => (value < middle ? ends[0] : value > middle ? ends[1] : "as chosen")
  return { name, title, values, label: value => `${word(value)}\n${number(value)}` }
}

function Result({ result }) {
  const others = store.state.results.filter(other => other.seen && other !== result)
  const before = result.before && store.state.against === "before"
  const other = others.find(({ name }) => name === store.state.against)
  const shown = one => ({
    source: address(one, "view"),
    alt: `The painting ${one.name}`,
    label: one.name,
  })
  const after = shown(result)
  const photograph = { source: address(result, "before"), alt: "The photograph", label: "before" }
  const nothing =
    result.state === "stopped" ? "Stopped before there was anything to see" : "Not painted yet"
  let picture = html`<${Frame}><img alt=${after.alt} src=${after.source} /><//>`
  if (!result.seen) picture = html`<p class="wait">${nothing}</p>`
  if (before)
    picture = html`<${Compare} left=${photograph} right=${{ ...after, label: "after" }} />`
  if (other) picture = html`<${Compare} left=${shown(other)} right=${after} />`
  return html`
    <div id="easel">${picture}</div>
    <div id="caption"><div class="result">
      <p class="where"><b>${result.name}</b> ${aboutOf(result)}</p>
      ${result.diverged && html`<p class="where failed">The run diverged; this is the last finite picture</p>`}
      <div class="row">
        ${
          result.seen &&
          html`<label class="field">Compare with <select id="against"
          value=${before || other ? store.state.against : ""} onChange=${event => store.set({ against: event.target.value })}>
            <option value="">nothing</option>
            ${result.before && html`<option value="before">the photograph</option>`}
            ${others.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
          </select></label>`
        }
        <${Downloads} result=${result} />
        ${result.resumable && html`<${Button} class="main" call=${() => store.resume(result)}>Resume<//>`}
        ${result.settings && html`<${Button} call=${() => store.useSettings(result)}>Use its settings<//>`}
        <${Button} call=${() => store.removeResult(result)}>Delete…<//>
      </div>
      <details>
        <summary>The command for the same picture</summary>
        <div class="row command">
          <code tabindex="0">${result.command}</code>
          <${Button} call=${event => copy(event.currentTarget, result.command)}>Copy<//>
        </div>
      </details>
    </div></div>`
}

const aboutOf = ({ state: end, recipe, size, seconds }) =>
  [end === "stopped" ? "Stopped early" : recipe, size?.join(" × "), seconds && duration(seconds)]
    .filter(Boolean)
    .join(" · ")

function Downloads({ result }) {
  const { name, seen } = result
  const done = result.state === "done"
  const link = (text, kind) =>
    html`<a class="button" href=${address(result, kind)} download="">${text}</a>`
  return html`
    ${seen && link(done ? name.split(".").pop().toUpperCase() : "PNG", "file")}
    ${done && !/\.tiff?$/.test(name) && link("TIFF", "tiff")}
    ${done && link("Manifest", "manifest")}`
}

async function copy(button, text) {
  await navigator.clipboard.writeText(text)
  button.textContent = "Copied"
}
