// The page of `jaxnst stylize --live`: it only looks.

import { follow, get } from "./base.js"
import { LiveView, progressText } from "./live.js"

const live = new LiveView(job => `frame?n=${job.frame}`)
get("#easel").append(...live.easel)
get("#caption").append(...live.caption)

follow(
  () => "events",
  (job, end) => {
    document.title = `${job.name} – jaxnst live`
    const over = job.state !== "painting"
    get("#status").textContent = over
      ? `${job.name} ${job.state === "done" ? "is finished" : "was stopped"}`
      : `${job.name}: ${progressText(job)}`
    live.update(job)
    if (over) end()
  },
  () => {
    get("#status").textContent = "No answer: the run has ended, or waits"
  },
)
