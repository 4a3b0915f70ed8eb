// Two pictures, one over the other, and a divider to move between them.

import { fit, make, named } from "./base.js"

/** A box that shows `left` on the left of the divider and `right` on its right. */
export function compare(left, right) {
  const under = make("img", { alt: right.alt, src: right.source })
  const over = make("img", { alt: left.alt, src: left.source, class: "over" })
  const slider = make("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    value: 50,
    "aria-label": `Divider between ${left.label} and ${right.label}`,
  })
  const box = make(
    "div",
    { class: "frame compare" },
    under,
    over,
    make("div", { class: "divider", "aria-hidden": "true" }),
    named(left.label, "name tag left"),
    named(right.label, "name tag right"),
    slider,
  )
  const move = () => {
    box.style.setProperty("--at", `${slider.value}%`)
    slider.setAttribute("aria-valuetext", `${slider.value} % ${left.label}`)
  }
  slider.addEventListener("input", move)
  move()
  under.addEventListener("load", () => fit(box, under.naturalWidth / under.naturalHeight), {
    once: true,
  })
  return box
}
