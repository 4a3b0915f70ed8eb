// A run while it is painted: the latest picture, where it is, and its losses.

import { duration, fit, make, number, view } from "./base.js"

const SVG = "http://www.w3.org/2000/svg"
const TERMS = { content: "photograph", style: "paintings", tv: "smoothness" }
const drawn = (tag, attributes, ...children) => {
  const element = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** Where a run is, in words, so many seconds after it was told. */
export function progressText(job, seconds = 0) {
  const { now } = job
  if (job.state === "failed") return `Not painted: ${job.message}`
  if (job.state === "waiting") {
    return job.place === 1
      ? "Waits for the picture that is painted"
      : `Waits; ${job.place - 1} more before it`
  }
  const cells = job.cells ?? []
  const painted = cells.length
    ? `${cells.filter(cell => cell.there).length} of ${cells.length} painted · `
    : ""
  const left =
    !now || now.left === null || job.state !== "painting"
      ? ""
      : `, about ${duration(now.left - seconds)} left`
  const stopping = job.state === "stopping" ? "Stopping after this step: " : ""
  if (!now || job.doing) return `${stopping}${painted}${job.doing || "Starting"}${left}`
  const scale = now.scales > 1 ? `scale ${now.scale + 1} of ${now.scales}, ` : ""
  return `${stopping}${painted}${now.size.join(" × ")} px, ${scale}step ${now.step} of ${now.steps}${left}`
}

/** A bar and words of where a job is, with room for its buttons. */
export class ProgressView {
  constructor() {
    this.bar = make("progress", { max: 1, "aria-label": "Progress" })
    this.text = make("p", { class: "where" })
    this.about = make("small")
    this.controls = make("div", { class: "row" })
    this.element = make(
      "div",
      { class: "progress" },
      this.bar,
      make("div", { class: "between" }, make("div", {}, this.text, this.about), this.controls),
    )
  }

  update(job) {
    const { now, doing } = job,
      told = JSON.stringify([now, doing])
    if (told !== this.told) Object.assign(this, { told, since: Date.now() })
    const seconds = Math.round((Date.now() - this.since) / 1000)
    // While patches are laid nothing is told, so the bar goes on at the pace it had.
    if (now)
      this.bar.value = Math.min(
        now.next ?? now.done,
        now.done + ((1 - now.done) * seconds) / (now.left || Infinity),
      )
    else this.bar.removeAttribute("value")
    const [weights] = /weights .*/.exec(job.message ?? "") ?? []
    if (weights) this.about.textContent = `With the ${weights}`
    this.bar.hidden = this.about.hidden = !going(job)
    const soFar = doing && !now && seconds > 1 && going(job) ? `, ${seconds} s so far` : ""
    this.text.textContent = `${progressText(job, seconds)}${soFar}`
  }
}

const going = job => ["waiting", "painting", "stopping"].includes(job.state)

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
    this.progress = new ProgressView()
    this.plot = make("figure", { class: "plot" })
    this.easel = [this.box, this.wait]
    this.caption = [this.progress.element, this.plot]
  }

  update(job) {
    this.progress.update(job)
    this.progress.text.hidden = !going(job) && job.state !== "failed"
    this.showPhotograph(job)
    this.wait.hidden = this.shown > 0
    this.wait.classList.toggle("failed", job.state === "failed")
    this.wait.textContent =
      job.state === "waiting"
        ? "The picture appears here when its turn comes"
        : going(job)
          ? "The picture appears here after the first step"
          : job.state === "failed"
            ? `Not painted: ${job.message}`
            : "Stopped before the first steps"
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

/** The terms as shares of the loss at the start, on a logarithmic scale; lines divide the scales. */
function plotOf(terms) {
  const names = Object.keys(terms[0] ?? {}).filter(
    name => name !== "scale" && terms.some(point => point[name] > 0),
  )
  const start = names.reduce((sum, name) => sum + (terms[0][name] ?? 0), 0)
  const seen = terms.flatMap(point => names.map(name => point[name])).filter(x => x > 0)
  if (terms.length < 2 || !seen.length) return []
  const logs = seen.map(Math.log10)
  const low = Math.max(Math.min(...logs), Math.max(...logs) - 4),
    high = Math.max(...logs)
  const x = i => (100 * i) / (terms.length - 1)
  const y = value => 38 - 36 * ((Math.max(Math.log10(value), low) - low) / (high - low || 1))
  const picture = drawn("svg", {
    viewBox: "0 0 100 40",
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": "Terms of the loss over the steps",
  })
  terms.forEach((point, i) => {
    if (i && point.scale !== terms[i - 1].scale)
      picture.append(drawn("line", { x1: x(i), x2: x(i), y1: 0, y2: 40, class: "divide" }))
  })
  names.forEach((name, index) => {
    const points = terms.flatMap((point, i) =>
      point[name] > 0 ? [`${x(i).toFixed(2)},${y(point[name]).toFixed(2)}`] : [],
    )
    picture.append(drawn("polyline", { points: points.join(" "), class: `term term-${index}` }))
  })
  const last = terms.at(-1)
  const share = value =>
    !(value >= 0 && start)
      ? "–"
      : value && value < start / 1000
        ? "< 0.1 %"
        : `${number((100 * value) / start)} %`
  const legend = make(
    "figcaption",
    {},
    make("small", {}, "Of the loss at the start"),
    ...names.map((name, index) =>
      make(
        "span",
        { class: `term-${index}` },
        make("i", { "aria-hidden": "true" }),
        `${TERMS[name] ?? name} ${share(last[name])}`,
      ),
    ),
  )
  return [picture, legend]
}
