package doctor

// checkDaemon: many facts are the daemon's alone.
func checkDaemon(b *Box) []Finding {
	if b.Stats == nil {
		return []Finding{found(Note, "start it (`sluice run`), or name its socket with --socket; until then its counters and modes are not looked at",
			"no daemon answers: %v", b.DaemonErr)}
	}
	return nil
}
