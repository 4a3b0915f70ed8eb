// A brush on the photograph: draws a mask, with a pointer or with keys.

import { fit, make } from "./base.js"

const LONGEST = 1024 // edge of a mask, in pixels

export class Brush {
  /** Draw on the photograph of that size; `onDone` gets a PNG, or null. */
  constructor(picture, source, about, onDone) {
    const shrink = Math.min(1, LONGEST / Math.max(picture.width, picture.height))
    this.mask = document.createElement("canvas")
    this.mask.width = Math.max(1, Math.round(picture.width * shrink))
    this.mask.height = Math.max(1, Math.round(picture.height * shrink))
    this.ink = this.mask.getContext("2d")
    this.canvas = make("canvas", {
      width: this.mask.width,
      height: this.mask.height,
      tabIndex: 0,
      role: "application",
      "aria-label": "Mask on the photograph",
      "aria-describedby": "brush-help",
    })
    this.screen = this.canvas.getContext("2d")
    this.at = { x: this.mask.width / 2, y: this.mask.height / 2 }
    this.before = []
    this.box = make(
      "div",
      { class: "frame draw" },
      make("img", { alt: "The photograph", src: source }),
      this.canvas,
    )
    fit(this.box, picture.width / picture.height)
    this.tools = this.makeTools(about, onDone)
    this.listen()
    this.show()
  }

  makeTools(about, onDone) {
    this.size = make("input", { type: "range", min: 1, max: 40, value: 8, id: "brush-size" })
    this.size.addEventListener("input", () => this.show())
    this.shownSize = make("output")
    this.erase = make("input", { type: "checkbox" })
    const button = (text, call, kind) => {
      const found = make("button", { type: "button", class: kind }, text)
      found.addEventListener("click", call)
      return found
    }
    return make(
      "div",
      { class: "tools", role: "group", "aria-label": "Brush" },
      make("p", { class: "about" }, about),
      make("label", {}, "Brush ", this.size, this.shownSize),
      make("label", { class: "check" }, this.erase, "Erase"),
      button("Undo", () => this.undo()),
      button("All", () => this.fill(true)),
      button("Nothing", () => this.fill(false)),
      button("Cancel", () => onDone(null)),
      button("Use it", () => this.whiteOnBlack().toBlob(onDone, "image/png"), "main"),
      make(
        "p",
        { class: "about", id: "brush-help" },
        "Keys: arrows move, space paints, + and − change the size, E erases, Z undoes",
      ),
    )
  }

  get radius() {
    return ((Number(this.size.value) / 100) * Math.max(this.mask.width, this.mask.height)) / 2 + 1
  }

  listen() {
    const place = event => {
      const area = this.canvas.getBoundingClientRect()
      const x = (event.clientX - area.left) / area.width,
        y = (event.clientY - area.top) / area.height
      return { x: x * this.mask.width, y: y * this.mask.height }
    }
    this.canvas.addEventListener("pointerdown", event => {
      this.canvas.setPointerCapture(event.pointerId)
      this.remember()
      this.at = place(event)
      this.stroke(this.at, this.at)
      event.preventDefault()
      this.canvas.focus()
    })
    this.canvas.addEventListener("pointermove", event => {
      const to = place(event)
      if (event.buttons & 1) this.stroke(this.at, to)
      this.at = to
      this.show()
    })
    this.canvas.addEventListener("keydown", event => this.key(event))
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const step = event.shiftKey ? this.radius * 2 : this.radius / 2
    const moves = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, -step],
      ArrowDown: [0, step],
    }
    const size = change => {
      this.size.value = Number(this.size.value) + change
    }
    if (moves[event.key]) {
      const [dx, dy] = moves[event.key]
      const clip = (x, most) => Math.min(Math.max(x, 0), most)
      this.at = {
        x: clip(this.at.x + dx, this.mask.width),
        y: clip(this.at.y + dy, this.mask.height),
      }
    } else if (event.key === " ") {
      this.remember()
      this.stroke(this.at, this.at)
    } else if (event.key === "+") size(1)
    else if (event.key === "-") size(-1)
    else if (event.key === "e") this.erase.checked = !this.erase.checked
    else if (event.key === "z") this.undo()
    else return
    event.preventDefault()
    this.show()
  }

  stroke(from, to) {
    this.ink.globalCompositeOperation = this.erase.checked ? "destination-out" : "source-over"
    Object.assign(this.ink, {
      lineCap: "round",
      lineJoin: "round",
      lineWidth: this.radius * 2,
      strokeStyle: "white",
    })
    this.ink.beginPath()
    this.ink.moveTo(from.x, from.y)
    this.ink.lineTo(to.x + 0.01, to.y)
    this.ink.stroke()
    this.show()
  }

  fill(all) {
    this.remember()
    this.ink.globalCompositeOperation = "source-over"
    this.ink.clearRect(0, 0, this.mask.width, this.mask.height)
    this.ink.fillStyle = "white"
    if (all) this.ink.fillRect(0, 0, this.mask.width, this.mask.height)
    this.show()
  }

  whiteOnBlack() {
    const found = make("canvas", { width: this.mask.width, height: this.mask.height })
    const ink = found.getContext("2d")
    ink.fillRect(0, 0, found.width, found.height)
    ink.drawImage(this.mask, 0, 0)
    return found
  }

  remember() {
    this.before = [
      ...this.before.slice(-11),
      this.ink.getImageData(0, 0, this.mask.width, this.mask.height),
    ]
  }

  undo() {
    const last = this.before.pop()
    if (last) this.ink.putImageData(last, 0, 0)
    this.show()
  }

  /** The mask over the photograph, and a ring where the brush is. */
  show() {
    const { width, height } = this.mask,
      screen = this.screen
    this.shownSize.value = `${this.size.value} %`
    screen.clearRect(0, 0, width, height)
    screen.globalAlpha = 0.6
    screen.drawImage(this.mask, 0, 0)
    screen.globalCompositeOperation = "source-in"
    screen.fillStyle = "#ff2d87"
    screen.fillRect(0, 0, width, height)
    screen.globalCompositeOperation = "source-over"
    screen.globalAlpha = 1
    for (const [color, wide] of [
      ["#000", 3],
      ["#fff", 1.5],
    ]) {
      screen.beginPath()
      screen.arc(this.at.x, this.at.y, this.radius, 0, 2 * Math.PI)
      Object.assign(screen, { strokeStyle: color, lineWidth: wide })
      screen.stroke()
    }
  }
}
