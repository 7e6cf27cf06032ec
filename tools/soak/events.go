package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"sluice/engine/api"
	"sluice/tools/e2e/testbed"
)

// follow calls got with each event of a daemon, in order, until ctx ends. It returns when it has
// subscribed; ended is closed after the last call.
func follow(ctx context.Context, socket string, got func(api.Event)) (ended chan struct{}, err error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sluice/v1/events", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request) //nolint:bodyclose // readEvents closes it
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("the daemon's events: %s", answer.Status)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		readEvents(answer, got)
	}()
	return ended, nil
}

// readEvents calls got with each event of state until the answer ends.
func readEvents(answer *http.Response, got func(api.Event)) {
	defer answer.Body.Close()
	events := testbed.NewEvents(answer.Body)
	for name, data, ok := events.Next(); ok; name, data, ok = events.Next() {
		var e api.Event
		if name == "state" && json.Unmarshal([]byte(data), &e) == nil {
			got(e)
		}
	}
}
