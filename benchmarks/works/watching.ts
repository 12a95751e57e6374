import { type Bench, inNode } from "../harness/model.ts"

/** What metrics, health and traces cost. Judged by CPU, since that is what they take. */
export const watching: ReadonlyArray<Bench> = [
  {
    name: "metrics stream",
    about: "A topic is read with `Consumer.stream`: unwatched, and with `layerPrometheus` and `KafkaHealth`.",
    compares: "cpu",
    contenders: [
      inNode("layerNoop", ["watching", "stream"], { metrics: "noop" }),
      inNode("layerPrometheus", ["watching", "stream"], { metrics: "prometheus" }),
      inNode("layerPrometheus, a scrape every second", ["watching", "stream"], { metrics: "prometheus", scrapes: true })
    ]
  },
  {
    name: "metrics forEach",
    about: "The same with `Consumer.forEach` and a handler that does nothing, each of whose runs is timed.",
    compares: "cpu",
    share: 0.5,
    contenders: [
      inNode("layerNoop", ["watching", "forEach"], { metrics: "noop" }),
      inNode("layerPrometheus", ["watching", "forEach"], { metrics: "prometheus" })
    ]
  },
  {
    name: "metrics send",
    about: "`Producer.send` by 1,000 fibers.",
    compares: "cpu",
    share: 0.2,
    contenders: [
      inNode("layerNoop", ["watching", "send"], { metrics: "noop" }),
      inNode("layerPrometheus", ["watching", "send"], { metrics: "prometheus" })
    ]
  },
  ...(["stream", "forEach", "send"] as const).map((run): Bench => ({
    name: `tracing ${run}`,
    about: `The same work, \`${run}\`, without a tracer and with OpenTelemetry's SDK, whose spans go nowhere.`,
    compares: "cpu",
    share: run === "stream" ? 0.5 : 0.1,
    contenders: [
      inNode("no tracer", ["watching", run], { metrics: "noop", tracing: "off" }),
      inNode("OpenTelemetry", ["watching", run], { metrics: "noop", tracing: "on" })
    ]
  }))
]
