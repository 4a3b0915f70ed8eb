// The panel: the settings, and their choices.

import { html, number, thumb } from "./base.js"
import { idOf, isOn, recipeOf, rounded, SLIDERS, turned, withRecipe } from "./settings.js"
import { Sketch } from "./sketch.js"
import * as store from "./store.js"

const COLORS = {
  style: "of the paintings",
  content: "of the photograph",
  luminance: "of the photograph, exactly",
}

export function Panel() {
  const { settings, options, pictures, idle } = store.state
  const varied = Object.keys(options.variations).filter(name => !idle.includes(name))
  const count = varied.reduce((product, name) => product * options.variations[name], 1)
  const submit = event => {
    event.preventDefault()
    return store.start("picture")
  }
  return html`
    <form id="panel" aria-label="Settings" novalidate onSubmit=${store.act(submit)}
      onChange=${() => store.check().catch(() => {}) /* reported again before painting */}>
      <fieldset>
        <legend>Photograph</legend>
        <${Photograph} picture=${pictures[settings.content]} />
        <div class="row">
          <${Files} id="content-file" use=${store.setContent}>Choose…<//>
          <button type="button" id="content-sample" onClick=${() => store.setContent(options.samples[0])}>Sample</button>
        </div>
      </fieldset>

      <fieldset>
        <legend>Paintings</legend>
        <${Paintings} ...${settings} pictures=${pictures} />
        <div class="row">
          <${Files} id="style-file" use=${store.addStyle} multiple>Add…<//>
          <div class="samples" role="group" aria-label="Sample paintings">
            ${options.samples.slice(1).map(
              picture => html`
              <button type="button" class="pick" aria-label=${`Add ${picture.id}`} title=${picture.id}
                onClick=${() => store.addStyle(picture)}><img alt="" src=${thumb(picture.id)} /></button>`,
            )}
          </div>
        </div>
      </fieldset>

      <fieldset>
        <legend>Strokes</legend>
        ${Object.keys(SLIDERS).map(name => html`<${Slider} name=${name} />`)}
        <${Colors} colors=${settings.colors} names=${options.colors} />
      </fieldset>

      <fieldset>
        <legend>Result</legend>
        <${Whole} name="size">Long edge (px)<//>
        <div class="field" role="radiogroup" aria-label="Quality" id="quality">
          ${options.qualities.map(
            name => html`<label><input type="radio" name="quality" value=${name}
            checked=${settings.quality === name} onChange=${() => store.choose({ quality: name })} /><span>${name}</span></label>`,
          )}
        </div>
        <${Recipes} chosen=${recipeOf(settings, options)} recipes=${options.recipes} />
      </fieldset>

      <${Fold} name="regions" title="Regions">
        <${Regions} ...${settings} pictures=${pictures} samples=${options.samples} />
        <div class="row">
          <button type="button" id="add-region" onClick=${store.addRegion}>Add a region</button>
          <button type="button" id="add-content-mask" onClick=${() =>
            store.drawMask("Paint what to preserve of the photograph", content_mask =>
              store.choose({ content_mask }),
            )}>Preserve the photograph</button>
        </div>
        <${Check} name="keep_rest" checked=${settings.keep_rest}
          change=${keep_rest => store.choose({ keep_rest })}>Keep the rest of the photograph<//>
      <//>

      <${Fold} name="more" title="More">
        <${Check} name="rotate_styles" checked=${isOn(settings, "rotate_styles")}
          change=${on => store.choose(turned(settings, "rotate_styles", on))}>Rotate styles<//>
        <${Check} name="bits" checked=${settings.bits === 16}
          change=${on => store.choose({ bits: on ? 16 : 8 })}>16 bits per channel, for print<//>
        <${Whole} name="seed">Seed<//>
        <${Whole} name="preview_size">Variations (px)<//>
        <${Field} name="set" kind="field wide" type="text" value=${settings.set} spellcheck=${false}
          autocapitalize="off" placeholder="steps=20 history=5"
          onInput=${event => store.choose({ set: event.target.value })}>Fields of the recipe<//>
      <//>

      <div class="actions">
        <button type="button" id="preview" aria-describedby="preview-about"
          onClick=${store.act(() => store.start("preview"))}>Preview</button>
        <button type="submit" id="paint" class="main">Paint</button>
        <small id="preview-about">Preview paints ${count} small variations</small>
      </div>
    </form>`
}

const Photograph = ({ picture }) => html`
  <div class="row" id="photograph">
    ${
      picture
        ? html`<img class="chosen" alt="" src=${thumb(picture.id)} />
          <span>${picture.name}<small>${picture.width} × ${picture.height} px</small></span>`
        : html`<small>None yet: choose one, or drop it on the page</small>`
    }
  </div>`

/** A button that uploads files; `use` gets each picture. */
function Files({ use, children, ...rest }) {
  const upload = event => {
    store.take([...event.target.files], use)
    event.target.value = ""
  }
  return html`<label class="button">${children} <input type="file" accept=${store.accepted()} onChange=${upload} ...${rest} /></label>`
}

function Paintings({ styles, blend, pictures }) {
  const sum = blend.reduce((total, weight) => total + weight, 0) || 1
  const remove = index => {
    const others = list => list.filter((_, i) => i !== index)
    store.choose({ styles: others(styles), blend: others(blend) })
    document.querySelector("#style-file").focus()
  }
  const weigh = (index, weight) => store.choose({ blend: blend.with(index, weight) })
  const row = (id, i) => {
    const { name } = pictures[id]
    const share = `${Math.round((100 * blend[i]) / sum)} %`
    return html`
      <li key=${id}>
        <img class="chosen" alt="" src=${thumb(id)} />
        <span>${name}${
          styles.length > 1 &&
          html`<span class="share">
          <input type="range" min="0" max="2" step="0.05" value=${blend[i]} aria-label=${`Weight of ${name}`}
            aria-valuetext=${share} onInput=${event => weigh(i, event.target.valueAsNumber)} />
          <output>${share}</output></span>`
        }</span>
        <button type="button" class="quiet" aria-label=${`Remove ${name}`} onClick=${() => remove(i)}>✕</button>
      </li>`
  }
  return html`<ul id="paintings">${styles.map(row)}</ul>`
}

function Slider({ name }) {
  const { settings, options, idle } = store.state
  const { label, ends, reach, off } = SLIDERS[name]
  const isOff = idle.includes(name)
  const usual = recipeOf(settings, options)[name]
  const power = Math.log2(settings[name] / usual)
  const shown = `${number(settings[name])}${power ? "" : " (usual)"}`
  const slide = ({ target: { valueAsNumber: power } }) =>
    store.choose({ [name]: Math.abs(power) < 0.03 ? usual : rounded(usual * 2 ** power) })
  return html`
    <label class="slider">
      <span>${label} <output id=${`${idOf(name)}-shown`}>${isOff ? off : shown}</output></span>
      <input type="range" id=${idOf(name)} min=${-reach} max=${reach} step="0.05" value=${power}
        disabled=${isOff} aria-valuetext=${shown} onInput=${slide} />
      <span class="ends"><small>${ends[0]}</small><small>${ends[1]}</small></span>
    </label>`
}

function Colors({ colors, names }) {
  const change = async ({ target }) =>
    store.choose({
      colors: target.value || (await store.pick())?.id || store.state.options.defaults.colors,
    })
  return html`
    <label class="field">Colours <select id="colors" value=${names.includes(colors) ? colors : ""} onChange=${change}>
      ${names.map(name => html`<option value=${name}>${COLORS[name] ?? name}</option>`)}
      <option value="">of another picture…</option>
    </select></label>`
}

const Recipes = ({ chosen, recipes }) => html`
  <label class="field">Recipe <select id="recipe" aria-describedby="recipe-about" value=${chosen.name}
    onChange=${event => store.choose(withRecipe(store.state.settings, event.target.value, store.state.options))}>
    <button type="button"><selectedcontent /></button>
    ${recipes.map(
      ({ name, look }) => html`<option value=${name}>
      <${Sketch} name=${name} /><b>${name}</b><i> – </i><small>${look}</small></option>`,
    )}
  </select></label>
  <div class="about" id="recipe-about">
    <${Sketch} name=${chosen.name} /><p>${chosen.look}.<small>${chosen.summary}</small></p>
  </div>`

function Regions({ regions, styles, content_mask, pictures, samples }) {
  const ids = [
    ...styles,
    ...regions.flatMap(region => region.styles),
    ...samples.slice(1).map(({ id }) => id),
  ]
  const row = (mask, label, control, remove) => html`
    <li>
      <img class="chosen" alt="" src=${thumb(mask)} />
      <span>${label}${control}</span>
      <button type="button" class="quiet" aria-label=${`Remove: ${label}`} onClick=${() => {
        remove()
        document.querySelector("#add-region").focus()
      }}>✕</button>
    </li>`
  const region = ({ mask, styles: [style] }, i) => {
    const change = async ({ target }) => {
      const found = target.value || (await store.pick())?.id || style
      store.choose({ regions: regions.with(i, { mask, styles: [found] }) })
    }
    const control = html`
      <span class="pair">
        <img class="chosen" alt="" src=${thumb(style)} />
        <select aria-label=${`Painting of region ${i + 1}`} value=${style} onChange=${change}>
          ${[...new Set(ids)].map(id => html`<option value=${id}>${pictures[id].name}</option>`)}
          <option value="">another picture…</option>
        </select>
      </span>`
    return row(mask, `Region ${i + 1}`, control, () =>
      store.choose({ regions: regions.toSpliced(i, 1) }),
    )
  }
  return html`
    <ul id="regions">
      ${regions.map(region)}
      ${content_mask && row(content_mask, "Preserved photograph", null, () => store.choose({ content_mask: null }))}
    </ul>`
}

/** A part of the panel that is folded until it is needed. */
const Fold = ({ name, title, children }) => html`
  <details id=${`${name}-box`} open=${Boolean(store.state.open[name])}
    onToggle=${event => store.set({ open: { ...store.state.open, [name]: event.target.open } })}>
    <summary>${title}</summary>${children}
  </details>`

const Check = ({ name, checked, change, children }) => html`
  <label class="check"><input type="checkbox" id=${idOf(name)} checked=${checked}
    onChange=${event => change(event.target.checked)} /> ${children}</label>`

/** A field, and its problem. */
function Field({ name, kind = "field", children, ...rest }) {
  const wrong = store.state.wrong[name]
  const about = wrong && `${idOf(name)}-wrong`
  return html`
    <label class=${kind}>${children} <input id=${idOf(name)} aria-invalid=${wrong && "true"} aria-describedby=${about} ...${rest} /></label>
    ${wrong && html`<p class="failed" id=${about} role="alert">${wrong}</p>`}`
}

/** A field of a whole number; if empty, the server's default holds. */
function Whole({ name, children }) {
  const { settings, options } = store.state
  const [min, max] = options.limits[name]
  const input = ({ target }) => store.choose({ [name]: target.value ? target.valueAsNumber : null })
  return html`
    <${Field} name=${name} type="number" step="1" min=${min} max=${max} value=${settings[name] ?? ""}
      placeholder=${options.defaults[name] ?? recipeOf(settings, options).size} onInput=${input}>${children}<//>`
}
