// What is chosen. The page holds the fields of the server's settings, with some of them as its
// controls need them: `set` is a text, `blend` has a weight for each painting, and a slider has
// the power of two that the recipe's own value is multiplied by.

/** The fields that have sliders, in words: their name, and their two ends. */
export const SLIDERS = {
  content_weight: ["Follow the photograph", "painting", "photograph"],
  style_scale: ["Stroke size", "fine", "broad"],
}

/** The settings whose fields show what is wrong with them. */
export const FIELDS = ["size", "seed", "set", "preview_size"]

/** What the control of a setting is called in the page. */
export const idOf = name => name.replace("_", "-")

export const recipeOf = (settings, { recipes }) =>
  recipes.find(({ name }) => name === settings.recipe)

const words = text => text.split(/\s+/).filter(Boolean)

/** What the page holds of settings as the server knows them. */
export function held(sent, options) {
  const found = { content: null, ...options.defaults, ...sent }
  for (const name of Object.keys(options.limits)) {
    if (found[name] === options.defaults[name]) found[name] = null
  }
  found.blend ??= found.styles.map(() => 1)
  found.set = found.set.join(" ")
  return slid(found, found, options)
}

/** The settings with the sliders at these values, in place of what their fields were set to. */
export function slid(settings, values, options) {
  const recipe = recipeOf(settings, options)
  const found = { ...settings }
  for (const name of Object.keys(SLIDERS)) {
    const value = values[name] ?? recipe[name]
    found[name] = snapped(Math.log2(value / recipe[name]))
    if (value !== recipe[name]) {
      found.set = words(found.set)
        .filter(text => !text.startsWith(`${name}=`))
        .join(" ")
    }
  }
  return found
}

/** A power, which is 0 if it is nearly so. */
export const snapped = power => (Math.abs(power) < 0.015 ? 0 : power)

/** The value of a slider. */
export const sliderValue = (name, settings, options) =>
  Number((recipeOf(settings, options)[name] * 2 ** settings[name]).toPrecision(3))

/** The settings as the server reads them. */
export function sent(settings, options) {
  const keep = settings.keep_rest && settings.regions.length > 0
  const even = new Set(settings.blend).size < 2
  const found = {
    ...settings,
    styles: keep ? [] : settings.styles,
    blend: keep || even ? null : settings.blend,
    keep_rest: keep,
    set: words(settings.set),
  }
  for (const name of Object.keys(SLIDERS)) {
    const chosen = settings[name] !== 0 && uses(name, settings, options)
    found[name] = chosen ? sliderValue(name, settings, options) : null
  }
  return found
}

/** Whether a field has an effect in the recipe. */
export function uses(name, settings, options) {
  const squashed = /(?:^|\s)squash_style=(true|false)/i.exec(settings.set)
  if (name === "style_scale" && squashed) return squashed[1].toLowerCase() === "false"
  return !recipeOf(settings, options).idle.includes(name)
}

/** What keeps the settings from being painted, in a line; empty if nothing does. */
export function missing({ content, styles, regions }) {
  if (!content) return "Choose a photograph first"
  return styles.length || regions.length ? "" : "Choose a painting first"
}

/** All pictures of settings, by their names. */
export const picturesOf = ({ content, styles, regions, hold, colors }, options) =>
  [
    content,
    ...styles,
    ...regions.flatMap(({ mask, styles }) => [mask, ...styles]),
    hold,
    options.colors.includes(colors) ? null : colors,
  ].filter(Boolean)
