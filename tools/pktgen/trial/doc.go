// Package trial runs the two ends of a measurement and compares what was sent and received: loss,
// order and latency. Programs use the generator through Line:
//
//	line, err := trial.Open(trial.Setup{
//		Send:    trial.End{Affinity: affinity.Affinity{Netns: "client", CPU: 1}, Interface: "eth0"},
//		Receive: &trial.End{
//			Affinity: affinity.Affinity{Netns: "backend", CPU: affinity.AnyCPU}, Interface: "eth0"},
//		Traffic: tx.Traffic{Spec: spec, Model: flow.Model{Flows: 1000}},
//		Follow:  true, Latency: true,
//	})
//	defer line.Close()
//	result, err := line.Run(ctx, trial.Load{Rate: 500_000, Duration: 10 * time.Second})
package trial
