// The settings of the page. They differ from the server's: `set` is a text, `blend` always has
// a weight for each painting, and sliders always have a value.

/** The fields that have sliders: label, both ends, and the text if a slider has no effect. The
 * sliders multiply the recipe's value by factors from 2 ** -reach to 2 ** reach. */
export const SLIDERS = {
  content_weight: { label: "Follow the photograph", ends: ["painting", "photograph"], reach: 4 },
  style_scale: {
    label: "Stroke size",
    ends: ["fine", "broad"],
    reach: 1.5,
    off: "no effect: the recipe fits each painting to the photograph",
  },
}

/** The settings whose fields show their own problems. */
export const FIELDS = ["size", "seed", "set", "preview_size"]

/** The id of a setting's control in the page. */
export const idOf = name => name.replace("_", "-")

export const recipeOf = (settings, { recipes }) =>
  recipes.find(({ name }) => name === settings.recipe)

const words = text => text.split(/\s+/).filter(Boolean)

/** Settings in the page's form, from those in the server's form. */
export function held(sent, options) {
  const found = { content: null, ...options.defaults, ...sent }
  const recipe = recipeOf(found, options)
  for (const name in SLIDERS) found[name] ??= recipe[name]
  found.blend ??= found.styles.map(() => 1)
  return { ...found, set: found.set.join(" ") }
}

/** Settings in the server's form, from those in the page's form. */
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

/** Values of sliders, which replace assignments to their fields in `set`. */
export const slid = ({ set }, values) => ({
  ...values,
  set: without(set, Object.keys(values)).join(" "),
})

/** Whether `set` turns a field of the recipe on. */
export const isOn = ({ set }, name) => words(set.toLowerCase()).includes(`${name}=true`)

/** The change of `set` that turns a field of the recipe on, or leaves it off. */
export const turned = ({ set }, name, on) => ({
  set: [...without(set, [name]), ...(on ? [`${name}=true`] : [])].join(" "),
})

/** The change to another recipe; sliders keep their positions, relative to its values. */
export function withRecipe(settings, recipe, options) {
  const [before, after] = [recipeOf(settings, options), recipeOf({ recipe }, options)]
  const moved = name => rounded((settings[name] / before[name]) * after[name])
  return { recipe, ...Object.fromEntries(Object.keys(SLIDERS).map(name => [name, moved(name)])) }
}

/** A value, rounded to three digits. */
export const rounded = value => Number(value.toPrecision(3))

/** What the settings lack to be painted, in a line; empty if nothing. */
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
