// What every part of the page uses: elements, requests, sizes.

/** Make an element: properties, attributes (with - or aria), and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue
    if (name === "class") element.className = value
    else if (name.includes("-") || name === "role") element.setAttribute(name, value)
    else element[name] = value
  }
  element.append(...children.filter(child => child !== null && child !== undefined))
  return element
}

export const get = selector => document.querySelector(selector)

/** Show what went wrong until it is dismissed, or until something else works. */
export const complain = text => tell(text, "wrong")

/** Say what a person should know, likewise. */
export function tell(text, kind = "") {
  const box = get("#problem")
  box.className = kind
  box.querySelector("span").textContent = text
  box.hidden = !text
}

/** Ask the server; a refusal becomes an Error with its one line. */
export async function ask(path, options = {}) {
  let answer
  try {
    answer = await fetch(path, options)
  } catch {
    throw new Error("The studio does not answer. Is it still running in the terminal?")
  }
  if (!answer.ok) throw new Error((await answer.text()).trim() || `refused (${answer.status})`)
  const kind = answer.headers.get("content-type") ?? ""
  return kind.startsWith("application/json") ? answer.json() : null
}

export const send = (path, data) =>
  ask(path, {
    method: "POST",
    body: JSON.stringify(data),
    headers: { "content-type": "application/json" },
  })

/** Take a stream of events while the page is seen: browsers allow few connections. */
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

/** Upload a file or a blob; the answer is the picture that the server knows. */
export const upload = (blob, name) =>
  ask(`pictures?name=${encodeURIComponent(name)}`, { method: "POST", body: blob })

export const part = text => encodeURIComponent(text)
export const thumb = id => `pictures/${part(id)}/thumb`
export const view = id => `pictures/${part(id)}/view`

/** Whether the page is one column, where pictures may be as high as they are. */
export const narrow = () => matchMedia("(max-width: 820px)").matches

/** Keep a box as large as its parent allows at that ratio of width to height. */
export function fit(box, ratio) {
  const place = () => {
    const parent = box.parentElement
    if (!parent) return
    const height = narrow() ? innerHeight * 0.7 : parent.clientHeight
    const width = Math.min(parent.clientWidth, height * ratio)
    box.style.setProperty("width", `${Math.floor(width)}px`)
    box.style.setProperty("height", `${Math.floor(width / ratio)}px`)
  }
  const observer = new ResizeObserver(place)
  requestAnimationFrame(() => box.parentElement && observer.observe(box.parentElement))
  return box
}

/** A picture in a box that has its shape, known once it is loaded. */
export function framed(source, alt) {
  const image = make("img", { alt, src: source })
  const box = make("div", { class: "frame" }, image)
  image.addEventListener("load", () => fit(box, image.naturalWidth / image.naturalHeight), {
    once: true,
  })
  return box
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}

export const number = value => String(Number(value.toPrecision(2)))

/** Show a list of [key, make an element], of which those with a known key stay. */
export function redrawList(element, entries) {
  const there = new Map([...element.children].map(child => [child.dataset.key, child]))
  const children = entries.map(([key, create]) => {
    const child = there.get(key) ?? create()
    child.dataset.key = key
    return child
  })
  if (
    children.length !== element.children.length ||
    children.some((child, i) => child !== element.children[i])
  ) {
    element.replaceChildren(...children)
  }
}

/** A name whose middle is left out where there is no room for all of it. */
export function named(name, kind = "name") {
  const cut = Math.max(0, name.length - 12)
  return make(
    "span",
    { class: kind },
    make("span", {}, name.slice(0, cut)),
    make("span", {}, name.slice(cut)),
  )
}

/** Replace the children only if what they show has changed, so that focus stays. */
export function redraw(element, state, children) {
  const key = JSON.stringify(state)
  if (element.dataset.state === key) return
  element.dataset.state = key
  element.replaceChildren(...children())
}
