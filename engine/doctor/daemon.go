package doctor

// checkDaemon reports that no daemon answers: many facts come from the daemon.
func checkDaemon(b *Box) []Finding {
	if b.Stats == nil {
		return []Finding{found(Note, "start it (`sluice run`), or name its socket with --socket; until then its counters and modes are not checked",
			"no daemon answers: %v", b.DaemonErr)}
	}
	return nil
}
