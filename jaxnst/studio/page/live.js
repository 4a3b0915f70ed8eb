// A run while it is painted: the latest picture, where it is, and its losses.

import { duration, fit, make, view } from "./base.js"

const SVG = "http://www.w3.org/2000/svg"
const drawn = (tag, attributes, ...children) => {
  const element = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** Where a run is, in words. */
export function progressText(job) {
  const { now } = job
  if (job.state === "waiting") {
    return job.place === 1 ? "Waits for the picture that is painted" : `Waits; ${job.place - 1} more before it`
  }
  if (!now) return job.message || "Starting"
  const scale = now.scales > 1 ? `scale ${now.scale + 1} of ${now.scales}, ` : ""
  const left = now.left === null || job.state !== "painting" ? "" : `, about ${duration(now.left)} left`
  const stopping = job.state === "stopping" ? "Stopping after this step: " : ""
  return `${stopping}${now.size.join(" × ")} px, ${scale}step ${now.step} of ${now.steps}${left}`
}

/** The view of a run; `update(job)` shows what has changed. */
export class LiveView {
  constructor(frameOf) {
    this.frameOf = frameOf
    this.shown = 0
    this.image = make("img", { alt: "" })
    this.box = make("div", { class: "frame", hidden: true }, this.image)
    this.image.addEventListener("load", () => {
      if (this.ratio !== this.image.naturalWidth / this.image.naturalHeight) {
        this.ratio = this.image.naturalWidth / this.image.naturalHeight
        fit(this.box, this.ratio)
      }
    })
    this.wait = make("p", { class: "wait" })
    this.bar = make("progress", { max: 1, "aria-label": "Progress of the picture" })
    this.text = make("p", { class: "where" })
    this.plot = make("figure", { class: "plot" })
    this.controls = make("div", { class: "row" })
    this.easel = [this.box, this.wait]
    this.caption = make("div", { class: "progress" }, this.bar, make("div", { class: "between" }, this.text, this.controls), this.plot)
  }

  update(job) {
    const going = ["waiting", "painting", "stopping"].includes(job.state)
    if (job.now) this.bar.value = job.now.done
    else this.bar.removeAttribute("value")
    this.bar.hidden = !going && !job.now
    this.text.textContent = progressText(job)
    this.text.hidden = job.state === "failed"
    this.showPhotograph(job)
    this.wait.hidden = this.shown > 0
    this.wait.classList.toggle("failed", job.state === "failed")
    this.wait.textContent = job.state === "waiting" ? "The picture appears here when its turn comes"
      : going ? "The picture appears here after the first steps. The first one of a size has to be compiled, which may take a minute."
        : job.state === "failed" ? `Not painted: ${job.message}` : "Stopped before the first steps"
    this.showFrame(job)
    const points = JSON.stringify(job.terms)
    if (points !== this.points) {
      this.points = points
      this.plot.replaceChildren(...plotOf(job.terms))
    }
  }

  /** Until there is a frame, the photograph shows faintly what is painted. */
  showPhotograph(job) {
    if (this.shown || !job.content || this.image.src) return
    this.image.src = view(job.content)
    this.box.classList.add("faint")
    this.box.hidden = false
  }

  /** Load the latest frame before it takes the place of the one that is seen. */
  async showFrame(job) {
    if (job.frame <= this.shown) return
    const next = new Image()
    this.shown = job.frame
    next.src = this.frameOf(job)
    try {
      await next.decode()
    } catch {
      return // the next one will come
    }
    this.box.dataset.frames = Number(this.box.dataset.frames ?? 0) + 1
    this.wait.hidden = true
    this.box.hidden = false
    this.box.classList.remove("faint")
    this.image.alt = "The picture so far"
    this.image.src = next.src
  }
}

/** The weighted terms on a logarithmic scale; lines divide the scales. */
function plotOf(terms) {
  const names = Object.keys(terms[0] ?? {}).filter(name => name !== "scale")
  const seen = terms.flatMap(point => names.map(name => point[name])).filter(x => x > 0)
  if (terms.length < 2 || !seen.length) return []
  const logs = seen.map(Math.log10)
  const low = Math.max(Math.min(...logs), Math.max(...logs) - 4), high = Math.max(...logs)
  const x = i => (100 * i) / (terms.length - 1)
  const y = value => 38 - 36 * ((Math.max(Math.log10(value), low) - low) / (high - low || 1))
  const picture = drawn("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": "Weighted terms of the loss over the steps" })
  terms.forEach((point, i) => {
    if (i && point.scale !== terms[i - 1].scale) picture.append(drawn("line", { x1: x(i), x2: x(i), y1: 0, y2: 40, class: "divide" }))
  })
  names.forEach((name, index) => {
    const points = terms.flatMap((point, i) => point[name] > 0 ? [`${x(i).toFixed(2)},${y(point[name]).toFixed(2)}`] : [])
    picture.append(drawn("polyline", { points: points.join(" "), class: `term term-${index}` }))
  })
  const last = terms.at(-1)
  const legend = make("figcaption", {}, ...names.map((name, index) =>
    make("span", { class: `term-${index}` }, make("i", { "aria-hidden": "true" }), `${name} ${last[name]?.toPrecision(3) ?? "–"}`)))
  return [picture, legend]
}
