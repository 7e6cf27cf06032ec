// Package trial runs the two ends of a measurement and compares them: what was sent, what came, in
// which order and after how long. Line is the way to drive the generator from a program:
//
//	line, err := trial.Open(trial.Setup{
//		Send:    trial.End{Place: affinity.Affinity{Netns: "client", CPU: 1}, Interface: "eth0"},
//		Receive: &trial.End{Place: affinity.Affinity{Netns: "backend", CPU: affinity.AnyCPU}, Interface: "eth0"},
//		Traffic: tx.Traffic{Spec: spec, Model: flow.Model{Flows: 1000}},
//		Follow:  true, Latency: true,
//	})
//	defer line.Close()
//	result, err := line.Run(ctx, trial.Load{Rate: 500_000, Duration: 10 * time.Second})
package trial
