// Package backend is the server of a lab: it serves HTTP, TCP echo and UDP. Each answer has the
// name of the backend, the client address that it saw, and its own address of the connection, so
// that a test of a balancer can check where a connection went and what the backend saw.
//
//	GET  /                       an answer line
//	GET  /healthz                an answer line
//	GET  /blob?bytes=N&seed=S    N bytes that depend on S only; header X-Sha256 is their hash,
//	                             X-Backend the name
//	PUT  /upload, POST /upload   an answer line with the count and hash of the bytes received
//	TCP echo                     the bytes received
//	UDP                          an answer line, then the bytes received; from the address that
//	                             the request was sent to
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
// Command starts the running program again, so its main, or TestMain, has to call RunIfChild first.
// The program netlab-backend is the same for the command line.
package backend
