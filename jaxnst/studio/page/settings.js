// What is chosen: the server's settings, but `set` is a text, `blend` has a weight for each
// painting, and sliders have a value even where it is the recipe's own.

/** The fields that have sliders: their name, their two ends, and why they have no effect. A
 * slider reaches from 2 to the power of minus `reach` to its inverse. */
export const SLIDERS = {
  content_weight: { label: "Follow the photograph", ends: ["painting", "photograph"], reach: 4 },
  style_scale: {
    label: "Stroke size",
    ends: ["fine", "broad"],
    reach: 1.5,
    off: "no effect: the recipe fits each painting to the photograph",
  },
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
  const recipe = recipeOf(found, options)
  for (const name in SLIDERS) found[name] ??= recipe[name]
  found.blend ??= found.styles.map(() => 1)
  return { ...found, set: found.set.join(" ") }
}

/** The settings as the server reads them. */
export function sent(settings, options) {
  const recipe = recipeOf(settings, options)
  const keep = settings.keep_rest && settings.regions.length > 0
  const even = new Set(settings.blend).size < 2
  const found = {
    ...settings,
    styles: keep ? [] : settings.styles,
    blend: keep || even ? null : settings.blend,
    keep_rest: keep,
    set: words(settings.set),
  }
  for (const name in SLIDERS) {
    if (found[name] === recipe[name]) found[name] = null
  }
  return found
}

const without = (set, names) => words(set).filter(text => !names.includes(text.split("=")[0]))

/** Values of sliders, in place of what was set in words. */
export const slid = ({ set }, values) => ({
  ...values,
  set: without(set, Object.keys(values)).join(" "),
})

/** Whether a field of the recipe is turned on in words. */
export const isOn = ({ set }, name) => words(set).includes(`${name}=true`)

/** The words that turn a field of the recipe on, or leave it off. */
export const turned = ({ set }, name, on) => ({
  set: [...without(set, [name]), ...(on ? [`${name}=true`] : [])].join(" "),
})

/** Another recipe; the sliders stay where they are, on its scale. */
export function withRecipe(settings, recipe, options) {
  const [before, after] = [recipeOf(settings, options), recipeOf({ recipe }, options)]
  const moved = name => rounded((settings[name] / before[name]) * after[name])
  return { recipe, ...Object.fromEntries(Object.keys(SLIDERS).map(name => [name, moved(name)])) }
}

/** A value as people write it. */
export const rounded = value => Number(value.toPrecision(3))

/** What keeps the settings from being painted, in a line; empty if nothing does. */
export function missing({ content, styles, regions }) {
  if (!content) return "Choose a photograph first"
  return styles.length || regions.length ? "" : "Choose a painting first"
}

/** All pictures of settings, by their names. */
export const picturesOf = ({ content, styles, regions, content_mask, colors }, options) =>
  [
    content,
    ...styles,
    ...regions.flatMap(({ mask, styles }) => [mask, ...styles]),
    content_mask,
    options.colors.includes(colors) ? null : colors,
  ].filter(Boolean)
