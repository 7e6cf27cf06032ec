package api

import "time"

// SetNetworkRetry sets the pause between attempts to listen on the network address.
func SetNetworkRetry(d time.Duration) { networkRetry = d }
