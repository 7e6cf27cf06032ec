// Package backend is the real server of a lab: it serves HTTP, TCP echo and UDP, and says in each
// answer who it is, whom it takes for the client and at which of its addresses it was asked. A
// balancer's test can so tell where a connection went and what the backend saw of it.
//
//	GET  /                       an answer line
//	GET  /healthz                an answer line
//	GET  /blob?bytes=N&seed=S    N bytes that depend on S only; X-Sha256 is their hash, X-Backend the name
//	PUT  /upload, POST /upload   an answer line with the count and hash of the bytes received
//	TCP echo                     what it gets
//	UDP                          an answer line, then the bytes received; from the address it was sent to
//
// An answer line is `name=b1 client=10.0.0.1:40000 server=10.0.0.11:80`, for uploads followed by
// ` bytes=N sha256=HEX`; see Answer.
//
// A Backend runs in this process, or in one of its own that can be killed:
//
//	func main() {
//		backend.RunIfChild()
//		...
//		p, err := host.Start(backend.Command(backend.Config{Name: "b1", HTTP: []string{":80"}}))
//		line, err := p.WaitLine(ctx, backend.ReadyLine)
//
// Command starts the running program again, which is why its main, or TestMain, calls RunIfChild
// first. The program netlab-backend is the same thing for the command line.
package backend
