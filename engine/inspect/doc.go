// Package inspect answers why packets go the way they go.
//
//   - Snapshot.Explain returns what happens to a packet that has not been sent, step by step, and
//     what is wrong on its way (explain.go, diagnose.go);
//   - Tracer shows the packets of a running balancer as they pass (trace.go);
//   - Offline runs recorded packets through the pipeline of a configuration (simulate.go).
//
// All three write their steps with format.go and packet_summary.go, and decide with package steer
// which frames reach Sluice. A Snapshot has values and functions that ask the workers; the package
// does not know the engine that makes it. Nothing here changes a connection, a counter or a
// scheduler's position of a running balancer.
package inspect
