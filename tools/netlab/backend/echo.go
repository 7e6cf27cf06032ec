package backend

import "io"

// serveEcho returns to each TCP client what it sends, until it has sent everything.
func (b *Backend) serveEcho(network, addr string) error {
	l, err := b.listenTCP(network, addr)
	if err != nil {
		return err
	}
	b.run(l, func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed; other errors end the service, too
			}
			b.run(c, func() { _, _ = io.Copy(c, c) })
		}
	})
	return nil
}
