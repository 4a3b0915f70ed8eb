// What all parts of the page share: templates, requests and formats of text.

import htm from "./vendor/htm-3.1.1.js"
import { h } from "./vendor/preact-11.2.0.js"

export const html = htm.bind(h)

/** Ask the server; a refusal becomes an Error with its one line. */
export async function ask(path, options) {
  const answer = await fetch(path, options).catch(() => {
    throw new Error("The studio does not answer. Is it still running in the terminal?")
  })
  if (!answer.ok) throw new Error((await answer.text()).trim() || `refused (${answer.status})`)
  const kind = answer.headers.get("content-type") ?? ""
  if (kind.startsWith("image/")) return answer.blob()
  return kind.startsWith("application/json") ? answer.json() : null
}

export const send = (path, data) =>
  ask(path, {
    method: "POST",
    body: JSON.stringify(data),
    headers: { "content-type": "application/json" },
  })

/** Take a stream of events while the page is visible: browsers allow few connections. */
export function follow(address, take, lost) {
  let events = null
  const turn = () => {
    events?.close()
    events = null
    if (document.hidden) return
    events = new EventSource(address())
    events.onmessage = event => take(JSON.parse(event.data), end, event.lastEventId)
    events.onerror = lost
  }
  const end = () => {
    document.removeEventListener("visibilitychange", turn)
    events?.close()
  }
  document.addEventListener("visibilitychange", turn)
  turn()
}

export const part = text => encodeURIComponent(text)
export const thumb = id => `pictures/${part(id)}/thumb`
export const view = id => `pictures/${part(id)}/view`

/** A box in the shape of the picture in it, as large as the stage allows. */
export const Frame = ({ kind = "", children, ...rest }) =>
  html`<div class=${`frame ${kind}`} onLoadCapture=${shape} ...${rest}>${children}</div>`

const shape = ({ currentTarget, target }) =>
  currentTarget.style.setProperty("--ratio", target.naturalWidth / target.naturalHeight)

/** A name whose middle is left out if the name does not fit. */
export const Named = ({ name, kind = "name" }) => {
  const cut = Math.max(0, name.length - 12)
  return html`<span class=${kind}><span>${name.slice(0, cut)}</span><span>${name.slice(cut)}</span></span>`
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

export const number = value => String(Number(value.toPrecision(2)))
