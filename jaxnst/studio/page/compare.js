// Two pictures, one over the other, and a divider to move between them.

import { Frame, html, Named } from "./base.js"
import { Component } from "./vendor/preact-11.2.0.js"

/** Shows `left` on the left of the divider and `right` on its right. */
export class Compare extends Component {
  state = { at: 50 }

  render({ left, right }, { at }) {
    return html`
      <${Frame} kind="compare" style=${{ "--at": `${at}%` }}>
        <img alt=${right.alt} src=${right.source} />
        <img alt=${left.alt} src=${left.source} class="over" />
        <div class="divider" aria-hidden="true" />
        <${Named} name=${left.label} kind="name tag left" />
        <${Named} name=${right.label} kind="name tag right" />
        <input type="range" min="0" max="100" value=${at} aria-valuetext=${`${at} % ${left.label}`}
          aria-label=${`Divider between ${left.label} and ${right.label}`}
          onInput=${event => this.setState({ at: event.target.valueAsNumber })} />
      <//>`
  }
}
