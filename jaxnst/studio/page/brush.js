// A brush on the photograph: draws a mask, with a pointer or with keys.

import { Frame, html, view } from "./base.js"
import { Component, createRef } from "./vendor/preact-11.2.0.js"

const LONGEST = 1024 // edge of a mask, in pixels

/** Draw on a picture; `done` gets a PNG, or null. */
export class Brush extends Component {
  state = { size: 8, erase: false }
  canvas = createRef()
  before = []

  constructor(props) {
    super(props)
    const { width, height } = props.picture
    const shrink = Math.min(1, LONGEST / Math.max(width, height))
    const round = edge => Math.max(1, Math.round(edge * shrink))
    this.ink = sheet(round(width), round(height))
    this.mask = this.ink.canvas
    this.at = { x: this.mask.width / 2, y: this.mask.height / 2 }
  }

  componentDidMount() {
    this.show()
    this.canvas.current.focus()
  }

  componentDidUpdate() {
    this.show()
  }

  render({ picture, about, done }, { size, erase }) {
    const button = (text, call, kind) =>
      html`<button type="button" class=${kind} onClick=${call}>${text}</button>`
    return html`
      <div id="easel">
        <${Frame} kind="draw" style=${{ "--ratio": picture.width / picture.height }}>
          <img alt="The photograph" src=${view(picture.id)} />
          <canvas ref=${this.canvas} width=${this.mask.width} height=${this.mask.height}
            tabindex="0" role="application" aria-label="Mask on the photograph" aria-describedby="brush-help"
            onPointerDown=${this.press} onPointerMove=${this.move} onKeyDown=${this.key} />
        <//>
      </div>
      <div id="caption">
        <div class="tools" role="group" aria-label="Brush">
          <p class="about">${about}</p>
          <label>Brush <input type="range" id="brush-size" min="1" max="40" value=${size}
            onInput=${event => this.setState({ size: event.target.valueAsNumber })} />
            <output>${size} %</output></label>
          <label class="check"><input type="checkbox" checked=${erase}
            onChange=${event => this.setState({ erase: event.target.checked })} />Erase</label>
          ${button("Undo", this.undo)}
          ${button("All", () => this.fill(true))}
          ${button("Nothing", () => this.fill(false))}
          ${button("Cancel", () => done(null))}
          ${button("Use it", () => this.whiteOnBlack().toBlob(done, "image/png"), "main")}
          <p class="about" id="brush-help">
            Keys: arrows move, space paints, + and − change the size, E erases, Z undoes</p>
        </div>
      </div>`
  }

  get radius() {
    return ((this.state.size / 100) * Math.max(this.mask.width, this.mask.height)) / 2 + 1
  }

  place(event) {
    const area = this.canvas.current.getBoundingClientRect()
    const x = (event.clientX - area.left) / area.width
    const y = (event.clientY - area.top) / area.height
    return { x: x * this.mask.width, y: y * this.mask.height }
  }

  press = event => {
    this.canvas.current.setPointerCapture(event.pointerId)
    this.remember()
    this.stroke(this.place(event))
    event.preventDefault()
    this.canvas.current.focus()
  }

  move = event => {
    if (event.buttons & 1) this.stroke(this.place(event), this.at)
    else this.goTo(this.place(event))
  }

  key = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const { x, y } = this.at
    const step = event.shiftKey ? this.radius * 2 : this.radius / 2
    const size = change =>
      this.setState(({ size }) => ({ size: Math.min(Math.max(size + change, 1), 40) }))
    const calls = {
      ArrowLeft: () => this.goTo({ x: x - step, y }),
      ArrowRight: () => this.goTo({ x: x + step, y }),
      ArrowUp: () => this.goTo({ x, y: y - step }),
      ArrowDown: () => this.goTo({ x, y: y + step }),
      " ": () => {
        this.remember()
        this.stroke(this.at)
      },
      "+": () => size(1),
      "-": () => size(-1),
      e: () => this.setState(({ erase }) => ({ erase: !erase })),
      z: this.undo,
    }
    if (!calls[event.key]) return
    event.preventDefault()
    calls[event.key]()
  }

  goTo({ x, y }) {
    const clip = (at, most) => Math.min(Math.max(at, 0), most)
    this.at = { x: clip(x, this.mask.width), y: clip(y, this.mask.height) }
    this.show()
  }

  /** Draw a line to a place, from where the brush was or as a dab. */
  stroke(to, from = to) {
    const { ink } = this
    ink.globalCompositeOperation = this.state.erase ? "destination-out" : "source-over"
    Object.assign(ink, { lineCap: "round", lineJoin: "round", strokeStyle: "white" })
    ink.lineWidth = this.radius * 2
    ink.beginPath()
    ink.moveTo(from.x, from.y)
    ink.lineTo(to.x + 0.01, to.y)
    ink.stroke()
    this.goTo(to)
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
    const ink = sheet(this.mask.width, this.mask.height)
    ink.fillRect(0, 0, this.mask.width, this.mask.height)
    ink.drawImage(this.mask, 0, 0)
    return ink.canvas
  }

  remember() {
    const now = this.ink.getImageData(0, 0, this.mask.width, this.mask.height)
    this.before = [...this.before.slice(-11), now]
  }

  undo = () => {
    const last = this.before.pop()
    if (last) this.ink.putImageData(last, 0, 0)
    this.show()
  }

  /** The mask over the photograph, and a ring where the brush is. */
  show() {
    const { width, height } = this.mask
    const screen = this.canvas.current.getContext("2d")
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

/** What draws on a new canvas of that size. */
const sheet = (width, height) =>
  Object.assign(document.createElement("canvas"), { width, height }).getContext("2d")
