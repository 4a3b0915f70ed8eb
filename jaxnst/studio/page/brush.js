// A brush on the photograph: draws a mask, with a pointer or with keys.

import { ask, Frame, html, part, view } from "./base.js"
import { act, state } from "./store.js"
import { Component, createRef } from "./vendor/preact-11.2.0.js"

const INK = "#ff2d87"

/** Draw on a picture; `done` gets a PNG, or null. */
export class Brush extends Component {
  canvas = createRef()
  before = [] // earlier masks, for undo

  constructor(props) {
    super(props)
    const { width, height } = props.picture
    const shrink = Math.min(1, state.options.most.mask / Math.max(width, height))
    const [w, h] = [width, height].map(edge => Math.max(1, Math.round(edge * shrink)))
    this.state = { width: w, height: h, x: w / 2, y: h / 2, size: 8, erase: false }
  }

  componentDidMount() {
    this.ink = this.canvas.current.getContext("2d")
    this.canvas.current.focus()
  }

  render({ picture, about, done }, { width, height, x, y, size, erase }) {
    const button = (text, call, kind) =>
      html`<button type="button" class=${kind} onClick=${call}>${text}</button>`
    const percent = (part, all) => `${(100 * part) / all}%`
    const ring = {
      left: percent(x, width),
      top: percent(y, height),
      width: percent(2 * this.radius, width),
    }
    return html`
      <div id="easel">
        <${Frame} kind="draw" style=${{ "--ratio": picture.width / picture.height }}>
          <img alt="The photograph" src=${view(picture.id)} />
          <canvas ref=${this.canvas} width=${width} height=${height} tabindex="0" role="application"
            aria-label="Mask on the photograph" aria-describedby="brush-help"
            onPointerDown=${this.press} onPointerMove=${this.move} onKeyDown=${this.key} />
          <div class="ring" style=${ring} />
        <//>
      </div>
      <div id="caption">
        <div class="row tools" role="group" aria-label="Brush">
          <p class="about">${about}</p>
          <label>Brush <input type="range" id="brush-size" min="1" max="40" value=${size}
            onInput=${event => this.setState({ size: event.target.valueAsNumber })} />
            <output>${size} %</output></label>
          <label class="check"><input type="checkbox" checked=${erase}
            onChange=${event => this.setState({ erase: event.target.checked })} />Erase</label>
          ${button("Select subject", this.select("subject"))}
          ${button("Select sky", this.select("sky"))}
          ${button("Find the edge", this.select("painted"))}
          ${button("Undo", this.undo)}
          ${button("All", () => this.fill("source-over"))}
          ${button("Nothing", () => this.fill("destination-out"))}
          ${button("Cancel", () => done(null))}
          ${button("Use it", () => this.whiteOnBlack().toBlob(done, "image/png"), "main")}
          <p class="about" id="brush-help">
            Keys: arrows move, space paints, + and − change the size, E erases, Z undoes</p>
        </div>
      </div>`
  }

  get radius() {
    const { size, width, height } = this.state
    return ((size / 100) * Math.max(width, height)) / 2 + 1
  }

  press = event => {
    event.target.setPointerCapture(event.pointerId)
    event.target.focus()
    event.preventDefault()
    this.dab(this.place(event))
  }

  move = event => {
    if (event.buttons & 1) this.stroke(this.state, this.place(event))
    this.setState(this.place(event))
  }

  /** Where a pointer is on the mask. */
  place({ offsetX, offsetY, target }) {
    const scale = this.state.width / target.clientWidth
    return { x: offsetX * scale, y: offsetY * scale }
  }

  key = event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const clip = (value, least, most) => Math.min(Math.max(value, least), most)
    const step = event.shiftKey ? this.radius * 2 : this.radius / 2
    const go = (dx, dy) =>
      this.setState(({ x, y, width, height }) => ({
        x: clip(x + dx * step, 0, width),
        y: clip(y + dy * step, 0, height),
      }))
    const grow = change => this.setState(({ size }) => ({ size: clip(size + change, 1, 40) }))
    const calls = {
      ArrowLeft: () => go(-1, 0),
      ArrowRight: () => go(1, 0),
      ArrowUp: () => go(0, -1),
      ArrowDown: () => go(0, 1),
      " ": () => this.dab(this.state),
      "+": () => grow(1),
      "-": () => grow(-1),
      e: () => this.setState(({ erase }) => ({ erase: !erase })),
      z: this.undo,
    }
    if (!calls[event.key]) return
    event.preventDefault()
    calls[event.key]()
  }

  dab(at) {
    this.remember()
    this.stroke(at, at)
  }

  stroke(from, to) {
    const { ink } = this
    Object.assign(ink, { lineCap: "round", lineWidth: this.radius * 2, strokeStyle: INK })
    ink.globalCompositeOperation = this.state.erase ? "destination-out" : "source-over"
    ink.beginPath()
    ink.moveTo(from.x, from.y)
    ink.lineTo(to.x + 0.01, to.y)
    ink.stroke()
  }

  /** Replace the mask by a part that the server finds. */
  select = name =>
    act(async () => {
      const ink = await new Promise(take => this.canvas.current.toBlob(take, "image/png"))
      document.body.classList.add("busy")
      const where = `pictures/${part(this.props.picture.id)}/parts/${name}`
      const found = await ask(where, { method: "POST", body: ink }).finally(() =>
        document.body.classList.remove("busy"),
      )
      const mask = await createImageBitmap(found)
      this.remember()
      this.ink.globalCompositeOperation = "copy"
      this.ink.drawImage(mask, 0, 0, this.state.width, this.state.height)
      cover(this.ink, "source-in", INK)
    })

  fill(how) {
    this.remember()
    cover(this.ink, how, INK)
  }

  whiteOnBlack() {
    const { width, height } = this.state
    const ink = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d")
    ink.drawImage(this.canvas.current, 0, 0)
    cover(ink, "source-in", "white")
    cover(ink, "destination-over", "black")
    return ink.canvas
  }

  remember() {
    const { width, height } = this.state
    this.before = [...this.before.slice(-11), this.ink.getImageData(0, 0, width, height)]
  }

  undo = () => {
    const last = this.before.pop()
    if (last) this.ink.putImageData(last, 0, 0)
  }
}

/** Fill a canvas with a colour, by a compositing operation. */
function cover(ink, how, color) {
  Object.assign(ink, { globalCompositeOperation: how, fillStyle: color })
  ink.fillRect(0, 0, ink.canvas.width, ink.canvas.height)
}
