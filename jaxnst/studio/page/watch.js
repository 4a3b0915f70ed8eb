// The read-only page of `jaxnst stylize --live`.

import { follow, html } from "./base.js"
import { Live, over, progressText } from "./live.js"
import { render } from "./vendor/preact-11.2.0.js"

const status = document.querySelector("#status")
const stage = document.querySelector("#stage")

function take(job, end) {
  const ended = job.state === "done" ? "is finished" : "was stopped"
  document.title = `${job.name} – jaxnst live`
  status.textContent = over(job) ? `${job.name} ${ended}` : `${job.name}: ${progressText(job)}`
  job.since = Date.now()
  render(html`<${Live} job=${job} frameOf=${number => `frame?n=${number}`} />`, stage)
  if (over(job)) end()
}

follow(
  () => "events",
  take,
  () => {
    status.textContent = "No answer: the run has ended or is suspended"
  },
)
