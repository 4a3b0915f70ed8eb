// A small sketch of what a recipe paints: how long strokes are, and how far they stray.

import { html } from "./base.js"

const STROKES = {
  painterly: [11, 0.12],
  delicate: [5, 0.03],
  palette: [2.5, 0],
  crowson: [8, 0.06],
  gatys2016: [7, 0.6],
  "gatys2016-code": [9, 0.35],
  johnson: [10, 0.5],
  "tf-blog": [5, 0.25],
  udacity: [3, 0.03],
  kaggle: [4, 0.05],
  boston: [3.5, 0.01],
  nnst: [14, 0.08],
  heitz2021: [3, 0.06],
}
const WIDE = 64
const HIGH = 48

/** The colour of a landscape there: hills under a sun, and water. */
function color(x, y) {
  if (Math.hypot(x - 46, y - 12) < 7) return "#f6c445"
  if (y < 26 - 7 * Math.sin(x / 11)) return y < 12 ? "#3f77b8" : "#7fb0d8"
  return y < 34 ? "#3d7a4a" : "#2b5673"
}

/** The strokes of each colour, as the path of an SVG. */
function paths(length, stray) {
  let seed = 7
  const random = () => {
    seed = (seed * 16807) % 2147483647
    return seed / 2147483647 - 0.5
  }
  const found = {}
  for (let y = 0; y <= HIGH; y += length / 2.5) {
    for (let x = 0; x <= WIDE; x += length / 1.5) {
      const seen = color(x + stray * WIDE * random(), y + stray * HIGH * random())
      const turn = (0.4 + 5 * stray) * random()
      const [dx, dy] = [(length * Math.cos(turn)) / 2, (length * Math.sin(turn)) / 2]
      const [a, b, c, d] = [x - dx, y - dy, 2 * dx, 2 * dy].map(at => at.toFixed(1))
      found[seen] = `${found[seen] ?? ""}M${a} ${b}l${c} ${d}`
    }
  }
  return Object.entries(found)
}

const known = {}

/** The landscape in the strokes of a recipe. */
export const Sketch = ({ name }) => {
  const [length, stray] = STROKES[name] ?? [6, 0.1]
  known[name] ??= paths(length, stray)
  return html`<svg viewBox=${`0 0 ${WIDE} ${HIGH}`} aria-hidden="true">
    ${known[name].map(([stroke, d]) => html`<path d=${d} stroke=${stroke} stroke-width=${length / 2} />`)}
  </svg>`
}
