// What is chosen: the panel, and the settings that the server understands.

import {
  ask,
  complain,
  get,
  make,
  number,
  part,
  redraw,
  send,
  tell,
  thumb,
  upload,
} from "./base.js"
import { sketch } from "./sketch.js"

const KEPT = "jaxnst-settings"
const OWN_COLORS = ["style", "content", "luminance"]
const FIELDS = { size: "#size", seed: "#seed", set: "#set", preview_size: "#preview-size" }
const SLIDERS = { contentWeight: "content_weight", styleScale: "style_scale" }

export class Form {
  /** `options` are the server's; the page is told of changes and of a photograph. */
  constructor(options, { changed, drawMask, showPhotograph }) {
    Object.assign(this, { options, changed, drawMask, showPhotograph })
    this.checks = 0
    this.samples = new Map(options.samples.map(picture => [picture.id, picture]))
    this.content = null
    this.styles = [] // { picture, weight }
    this.regions = [] // { mask, style }
    this.hold = null
    this.palette = null
    this.contentWeight = this.styleScale = null
    this.fillChoices()
    this.listen()
  }

  get recipe() {
    return this.options.recipes.find(recipe => recipe.name === get("#recipe").value)
  }

  /** Whether a field has an effect in the recipe, which the server has asked. */
  uses(name) {
    const squashed = /(?:^|\s)squash_style=(true|false)/i.exec(get("#set").value)
    if (name === "style_scale" && squashed) return squashed[1].toLowerCase() === "false"
    return !this.recipe.idle.includes(name)
  }

  /** The settings as the server reads them; those that are unset are left out. */
  settings() {
    const whole = selector => (get(selector).value === "" ? null : get(selector).valueAsNumber)
    const even = this.styles.every(style => style.weight === this.styles[0].weight)
    const keep = get("#keep-rest").checked && this.regions.length > 0
    const styles = keep ? [] : this.styles
    const found = {
      content: this.content?.id,
      styles: styles.map(style => style.picture.id),
      blend: even || keep ? null : styles.map(style => style.weight),
      size: whole("#size"),
      quality: get("#quality input:checked").value,
      recipe: this.recipe.name,
      content_weight: this.contentWeight,
      style_scale: this.uses("style_scale") ? this.styleScale : null,
      colors: this.palette?.id ?? get("#colors").value,
      rotate_styles: get("#rotate-styles").checked,
      regions: this.regions.map(({ mask, style }) => ({ mask: mask.id, styles: [style.id] })),
      keep_rest: keep,
      hold: this.hold?.id ?? null,
      seed: whole("#seed"),
      bits: get("#bits").checked ? 16 : 8,
      set: get("#set").value.split(/\s+/).filter(Boolean),
      preview_size: whole("#preview-size"),
    }
    return Object.fromEntries(
      Object.entries(found).filter(([, value]) => value !== null && value !== undefined),
    )
  }

  /** What keeps the settings from being painted, in a line; empty if nothing does. */
  missing() {
    if (!this.content) return "Choose a photograph first"
    const { styles, regions } = this.settings()
    return styles.length || regions.length ? "" : "Choose a painting first"
  }

  /** Ask the server what is wrong, and say it at the fields; the first one, or null. */
  async check() {
    const turn = ++this.checks
    const wrong = await send("check", this.settings())
    if (turn !== this.checks) return null // another one is under way
    for (const [name, selector] of Object.entries(FIELDS)) mark(get(selector), wrong[name] ?? "")
    const other = Object.keys(wrong).find(name => !FIELDS[name])
    if (other) throw new Error(wrong[other])
    const first = Object.keys(FIELDS).find(name => wrong[name])
    return first ? get(FIELDS[first]) : null
  }

  /** Take settings over, such as those of a result. */
  async load(settings) {
    const find = async id => this.samples.get(id) ?? ask(`pictures/${part(id)}`)
    const set = (selector, value) => {
      get(selector).value = value ?? ""
    }
    const content = await find(settings.content)
    const pictures = await Promise.all((settings.styles ?? []).map(find))
    const regions = await Promise.all(
      (settings.regions ?? []).map(async region => ({
        mask: await find(region.mask),
        style: await find(region.styles[0]),
      })),
    )
    this.hold = settings.hold ? await find(settings.hold) : null
    const colors = settings.colors ?? "style"
    this.palette = OWN_COLORS.includes(colors) ? null : await find(colors)
    this.content = content
    this.styles = pictures.map((picture, i) => ({ picture, weight: settings.blend?.[i] ?? 1 }))
    this.regions = regions
    set("#size", settings.size)
    set("#seed", settings.seed || "")
    set("#preview-size", settings.preview_size === 128 ? "" : settings.preview_size)
    set("#set", (settings.set ?? []).join(" "))
    set("#recipe", settings.recipe ?? "painterly")
    set("#colors", this.palette ? "file" : colors)
    get("#keep-rest").checked = settings.keep_rest ?? false
    get("#rotate-styles").checked = settings.rotate_styles ?? false
    get("#bits").checked = settings.bits === 16
    get(`#quality input[value="${settings.quality ?? "normal"}"]`).checked = true
    if (this.regions.length || this.hold) get("#regions-box").open = true
    this.choose(settings)
  }

  /** Take up what was chosen before the page was loaded anew. */
  async restore() {
    const kept = sessionStorage.getItem(KEPT)
    if (!kept) return
    try {
      await this.load(JSON.parse(kept))
    } catch {
      sessionStorage.removeItem(KEPT) // a picture of a studio that has ended
    }
  }

  /** Set the sliders, in place of their fields; the recipe's own value stays its own. */
  choose(values) {
    this.recipeBefore = this.recipe
    const chosen = Object.values(SLIDERS).filter(field => (values[field] ?? null) !== null)
    const others = get("#set")
      .value.split(/\s+/)
      .filter(text => !chosen.includes(text.split("=")[0]))
    get("#set").value = others.join(" ")
    for (const [name, field] of Object.entries(SLIDERS)) {
      const value = values[field] ?? null,
        usual = this.recipe[field]
      this[name] = value === null || Math.abs(value / usual - 1) < 0.01 ? null : value
    }
    this.update()
  }

  setContent(picture) {
    const before = this.content
    this.content = picture
    this.update()
    this.showPhotograph()
    if (before && before.id !== picture.id && (this.regions.length || this.hold)) {
      get("#regions-box").open = true
      tell(
        `What was drawn on ${before.name} is kept and stretched over ${picture.name}. Remove it under Regions if it does not fit.`,
      )
    }
  }

  addStyle(picture) {
    const most = 8
    if (this.styles.some(style => style.picture.id === picture.id)) return
    if (this.styles.length >= most) return complain(`At most ${most} paintings`)
    this.styles.push({ picture, weight: 1 })
    this.update()
  }

  /** Upload files, one after the other; `use` gets each picture. */
  async take(files, use) {
    complain("")
    for (const file of files) {
      if (file.size > this.options.most.bytes) {
        complain(
          `${file.name} has ${Math.round(file.size / 1e6)} MB; at most ${this.options.most.bytes / 1e6} MB can be sent`,
        )
        continue
      }
      document.body.classList.add("busy")
      try {
        use(await upload(file, file.name))
      } catch (error) {
        complain(error.message)
      } finally {
        document.body.classList.remove("busy")
      }
    }
  }

  fillChoices() {
    get("#recipe").append(
      make("button", { type: "button" }, document.createElement("selectedcontent")),
      ...this.options.recipes.map(({ name, look }) =>
        make(
          "option",
          { value: name },
          sketch(name),
          make("b", {}, name),
          make("i", {}, " – "),
          make("small", {}, look),
        ),
      ),
    )
    get("#recipe").value = "painterly"
    for (const [name, [min, max]] of Object.entries(this.options.limits))
      Object.assign(get(FIELDS[name]), { min, max })
    get("#quality").append(
      ...this.options.qualities.map(name =>
        make(
          "label",
          {},
          make("input", {
            type: "radio",
            name: "quality",
            value: name,
            checked: name === "normal",
          }),
          make("span", {}, name),
        ),
      ),
    )
    get("#samples").append(
      ...[...this.samples.values()].slice(1).map(picture => {
        const button = make(
          "button",
          { type: "button", class: "pick", "aria-label": `Add ${picture.id}`, title: picture.id },
          make("img", { alt: "", src: thumb(picture.id) }),
        )
        button.addEventListener("click", () => this.addStyle(picture))
        return button
      }),
    )
  }

  listen() {
    const files = (selector, use) =>
      get(selector).addEventListener("change", event => {
        this.take([...event.target.files], use)
        event.target.value = ""
      })
    files("#content-file", picture => this.setContent(picture))
    files("#style-file", picture => this.addStyle(picture))
    get("#content-sample").addEventListener("click", () => this.setContent(this.options.samples[0]))
    const slide = (selector, name, usual) =>
      get(selector).addEventListener("input", event => {
        const power = event.target.valueAsNumber
        this[name] =
          Math.abs(power) < 0.03 ? null : Number((this.recipe[usual] * 2 ** power).toPrecision(3))
        this.update()
      })
    slide("#content-weight", "contentWeight", "content_weight")
    slide("#style-scale", "styleScale", "style_scale")
    get("#recipe").addEventListener("change", () => {
      const before = this.recipeBefore // sliders stay where they are, on its scale
      for (const [name, field] of Object.entries(SLIDERS)) {
        if (this[name] !== null)
          this[name] = Number(((this[name] / before[field]) * this.recipe[field]).toPrecision(3))
      }
      this.update()
    })
    get("#colors").addEventListener("change", async event => {
      this.palette = null
      if (event.target.value === "file") {
        const file = await pickFile()
        if (file)
          await this.take([file], picture => {
            this.palette = picture
          })
        if (!this.palette) event.target.value = "style"
      }
      this.update()
    })
    get("#add-region").addEventListener("click", () => this.addRegion())
    get("#add-hold").addEventListener("click", () =>
      this.draw("Draw where the photograph holds", mask => {
        this.hold = mask
      }),
    )
    get("#panel").addEventListener("change", () => {
      this.update()
      this.check().catch(() => {}) // said again when it is painted
    })
  }

  draw(about, use) {
    if (!this.content) return complain("Choose a photograph first")
    this.drawMask(this.content, about, async blob => {
      await this.take([new File([blob], "mask.png", { type: "image/png" })], use)
      this.update()
    })
  }

  addRegion() {
    const used = new Set([
      ...this.styles.map(style => style.picture.name),
      ...this.regions.map(region => region.style.name),
    ])
    const paintings = this.options.samples.slice(1)
    const style = paintings.find(picture => !used.has(picture.name)) ?? paintings[0]
    this.draw("Draw where another painting gives the style", mask =>
      this.regions.push({ mask, style }),
    )
  }

  update() {
    const { contentWeight, styleScale, recipe } = this
    this.recipeBefore = recipe
    const slider = (selector, value, usual) => {
      get(selector).value = Math.log2((value || usual) / usual)
      const shown = `${number(value ?? usual)}${value === null ? " (usual)" : ""}`
      get(`${selector}-shown`).value = shown
      get(selector).setAttribute("aria-valuetext", shown)
    }
    slider("#content-weight", contentWeight, recipe.content_weight)
    slider("#style-scale", styleScale, recipe.style_scale)
    const strokes = this.uses("style_scale")
    get("#style-scale").disabled = !strokes
    if (!strokes)
      get("#style-scale-shown").value = "no effect: the recipe fits each painting to the photograph"
    get("#preview-about").textContent =
      `Preview paints ${strokes ? "nine" : "three"} small variations`
    redraw(get("#recipe-about"), recipe.name, () => [
      sketch(recipe.name),
      make("p", {}, `${recipe.look}.`, make("small", {}, recipe.summary)),
    ])
    const { content } = this
    redraw(get("#photograph"), content, () =>
      content
        ? [
            make("img", { class: "chosen", alt: "", src: thumb(content.id) }),
            make(
              "span",
              {},
              content.name,
              make("small", {}, `${content.width} × ${content.height} px`),
            ),
          ]
        : [make("small", {}, "None yet: choose one, or drop it on the page")],
    )
    redraw(
      get("#paintings"),
      this.styles.map(style => style.picture.id),
      () => this.styles.map(style => this.paintingRow(style.picture)),
    )
    this.showShares()
    redraw(
      get("#regions"),
      [this.regions, this.hold, this.styles.map(style => style.picture.id)],
      () => this.regionRows(),
    )
    const settings = this.settings()
    if (settings.content) sessionStorage.setItem(KEPT, JSON.stringify(settings))
    this.changed()
  }

  paintingRow(picture) {
    const remove = make(
      "button",
      { type: "button", class: "quiet", "aria-label": `Remove ${picture.name}` },
      "✕",
    )
    remove.addEventListener("click", () => {
      this.styles = this.styles.filter(style => style.picture.id !== picture.id)
      this.update()
      get("#style-file").focus()
    })
    const blend = make("input", {
      type: "range",
      min: 0,
      max: 2,
      step: 0.05,
      "aria-label": `Weight of ${picture.name}`,
    })
    blend.addEventListener("input", () => {
      this.styles.find(style => style.picture.id === picture.id).weight = blend.valueAsNumber
      this.showShares()
    })
    const share = make("span", { class: "share" }, blend, make("output"))
    return make(
      "li",
      {},
      make("img", { class: "chosen", alt: "", src: thumb(picture.id) }),
      make("span", {}, picture.name, this.styles.length > 1 ? share : null),
      remove,
    )
  }

  /** The share of each painting in the blend. */
  showShares() {
    const sum = this.styles.reduce((total, style) => total + style.weight, 0)
    document.querySelectorAll("#paintings .share").forEach((row, i) => {
      const { weight } = this.styles[i],
        [blend, output] = row.children
      output.value = `${Math.round((100 * weight) / (sum || 1))} %`
      blend.value = weight
      blend.setAttribute("aria-valuetext", output.value)
    })
  }

  regionRows() {
    const choices = new Map(
      [
        ...this.styles.map(style => style.picture),
        ...this.regions.map(region => region.style),
        ...this.options.samples.slice(1),
      ].map(picture => [picture.id, picture]),
    )
    const row = (mask, label, control, forget) => {
      const remove = make(
        "button",
        { type: "button", class: "quiet", "aria-label": `Remove: ${label}` },
        "✕",
      )
      remove.addEventListener("click", () => {
        forget()
        this.update()
        get("#add-region").focus()
      })
      return make(
        "li",
        {},
        make("img", { class: "chosen", alt: "", src: thumb(mask.id) }),
        make("span", {}, label, control),
        remove,
      )
    }
    const rows = this.regions.map((region, i) => {
      const select = make(
        "select",
        { "aria-label": `Painting of region ${i + 1}` },
        ...[...choices.values()].map(picture =>
          make("option", { value: picture.id }, picture.name),
        ),
        make("option", { value: "" }, "another picture…"),
      )
      select.value = region.style.id
      select.addEventListener("change", async () => {
        if (select.value) region.style = choices.get(select.value)
        else {
          const file = await pickFile()
          if (file)
            await this.take([file], picture => {
              region.style = picture
            })
          select.value = region.style.id
        }
        this.update()
      })
      const pair = make(
        "span",
        { class: "pair" },
        make("img", { class: "chosen", alt: "", src: thumb(region.style.id) }),
        select,
      )
      return row(region.mask, `Region ${i + 1}`, pair, () => {
        this.regions.splice(i, 1)
      })
    })
    if (this.hold)
      rows.push(
        row(this.hold, "The photograph holds", null, () => {
          this.hold = null
        }),
      )
    return rows
  }
}

/** Say what is wrong with a field right after it; nothing if the text is empty. */
function mark(field, text) {
  const id = `${field.id}-wrong`
  get(`#${id}`)?.remove()
  if (text) field.closest("label").after(make("p", { class: "failed", id, role: "alert" }, text))
  for (const [name, value] of Object.entries({ "aria-invalid": "true", "aria-describedby": id })) {
    if (text) field.setAttribute(name, value)
    else field.removeAttribute(name)
  }
  if (text && field.closest("details")) field.closest("details").open = true
}

/** Ask for a file; null if none is chosen. */
function pickFile() {
  const input = make("input", { type: "file", accept: "image/*,.heic,.heif,.tif,.tiff" })
  return new Promise(resolve => {
    input.addEventListener("change", () => resolve(input.files[0] ?? null))
    input.addEventListener("cancel", () => resolve(null))
    input.click()
  })
}
