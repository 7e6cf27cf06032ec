package report

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"sluice/tools/pktgen/search"
	"sluice/tools/pktgen/trial"
)

// JSON writes a value as JSON.
func JSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// table writes rows of two columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) row(name, format string, values ...any) {
	fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, values...))
}

// Text writes the result of one measurement as text.
func Text(w io.Writer, r trial.Result) error {
	t := newTable(w)
	if r.Sender != "" {
		t.row("sent", "%s frames, %s bytes in %.3f s by %s: %s", count(r.Sent), count(r.SentBytes), r.SpanS, r.Sender, rate(r.SentPPS))
	}
	if r.Refused > 0 {
		t.row("refused", "%s of them by the sending interface itself", count(r.Refused))
	}
	if r.Counts != nil {
		received(t, r)
	}
	if f := r.Flows; f != nil {
		flows(t, f)
	}
	if l := r.Latency; l != nil {
		t.row("latency", "min %s  mean %s  p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", nanoseconds(l.MinNS), nanoseconds(int64(l.MeanNS)),
			nanoseconds(l.P50NS), nanoseconds(l.P90NS), nanoseconds(l.P99NS), nanoseconds(l.P999NS), nanoseconds(l.MaxNS))
	}
	return t.Flush()
}

func received(t table, r trial.Result) {
	c := r.Counts
	t.row("received", "%s frames, %s bytes by %s: %s", count(r.Received), count(r.ReceivedBytes), r.Receiver, rate(r.ReceivedPPS))
	if r.Sender != "" {
		t.row("lost", "%s frames, %s", count(r.Lost), percent(r.LossRatio))
	}
	if r.Surplus > 0 {
		t.row("surplus", "%s frames came that we have not sent", count(r.Surplus))
	}
	for _, more := range []struct {
		name string
		n    uint64
		what string
	}{
		{"duplicates", c.Duplicates, "frames came before"},
		{"reordered", c.Reordered, "frames came after a later one of their flow"},
		{"overrun", c.Overrun, "frames came to the interface and not to the receiver's sockets"},
		{"foreign", c.Foreign, "frames of other runs"},
		{"other", c.Other, "frames that are neither TCP nor UDP"},
	} {
		if more.n > 0 {
			t.row(more.name, "%s %s", count(more.n), more.what)
		}
	}
}

func flows(t table, f *trial.Flows) {
	if f.Sent > 0 {
		t.row("flows", "%s sent, %s came, %s with loss, %s out of order", count(f.Sent), count(f.Seen), count(f.WithLoss), count(f.Late))
	} else {
		t.row("flows", "%s came, %s with gaps, %s out of order", count(f.Seen), count(f.WithLoss), count(f.Late))
	}
	for _, worst := range f.Worst {
		t.row("", "flow %d: %s of %s came", worst.Flow, count(uint64(worst.Received)), count(uint64(worst.Sent)))
	}
}

// SearchText writes the result of a search as text.
func SearchText(w io.Writer, r search.Result) error {
	t := newTable(w)
	if r.Best == nil {
		t.row("throughput", "none: every trial lost frames")
		return t.Flush()
	}
	t.row("throughput", "%s (%s frames sent and received, %s lost)", rate(r.ThroughputPPS), count(r.Best.Sent), count(r.Best.Lost))
	if r.SenderLimited {
		t.row("", "the sender can't go faster: the limit of what was measured is at least this")
	}
	if r.Best.P50NS > 0 {
		t.row("latency", "p50 %s  p99 %s at this rate", nanoseconds(r.Best.P50NS), nanoseconds(r.Best.P99NS))
	}
	t.row("trials", "%d", len(r.Trials))
	return t.Flush()
}
