package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"sluice/engine/api"
	"sluice/tools/browser"
	"sluice/tools/e2e/testbed"
	"sluice/tools/netlab"
)

const (
	pageAddress = "127.0.0.1:9180" // on the balancer
	pageToken   = "0123456789abcdef-page"
)

// bring forwards connections to a local address, which it returns, to an address of a host.
func bring(t *testing.T, host *netlab.Host, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			here, err := listener.Accept()
			if err != nil {
				return // the test is over
			}
			there, err := host.Dial(context.Background(), "tcp", address)
			if err != nil {
				here.Close() // as if no one listened
				continue
			}
			go func() { io.Copy(there, here); there.Close() }()
			go func() { io.Copy(here, there); here.Close() }()
		}
	}()
	return listener.Addr().String()
}

// busy makes clients send requests and download until the test ends.
func busy(t *testing.T, b *testbed.Bed, path testbed.Path) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	t.Cleanup(func() { cancel(); clients.Wait() })
	clients.Go(func() {
		for ctx.Err() == nil {
			b.Ask(ctx, path.URL(), 5)
			_ = b.Download(ctx, path.URL(), 1<<20, 1) // refused while no backend is up
		}
	})
}

// TestPage: the page of a real daemon with real traffic, in a real browser, on every screen: a
// backend that fails comes first, with the reason; a change on the page moves new connections; the
// page reports a restart and continues after it.
func TestPage(t *testing.T) {
	b := bed(t)
	cfg := healthChecked(t, nat4)
	cfg.Services = append(cfg.Services, config(t, nat4, dr4).Services[1:]...)
	tokenFile := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(tokenFile, []byte(pageToken+"\n"), 0o600))
	cfg.API.HTTP, cfg.API.TokenFile = pageAddress, tokenFile
	d := start(t, b, cfg)
	address := bring(t, b.Balancer, pageAddress)
	busy(t, b, nat4)
	dies(t, b, 1)
	awaitStates(t, d, "up down up")

	chromium := browser.New(t)
	var pages []*browser.Page
	for _, screen := range browser.Screens {
		pages = append(pages, chromium.Open("http://"+address+"/", screen))
	}
	for i, screen := range browser.Screens {
		p := pages[i]
		p.Await(`document.getElementById('sentence').textContent === 'backends 1/12 down'`)
		p.Await(`[...document.querySelectorAll('#tile-packets .value, #tile-bits .value')].every(v => /^[1-9]/.test(v.textContent))`)
		why := browser.Eval[string](p, `document.querySelector('#broken .service tr.down').innerText`)
		if want := b.Backends[1].Addr(4).String(); !strings.Contains(why, want) || !strings.Contains(why, "refused") {
			t.Errorf("of the dead backend stands there: %s", why)
		}
		p.Await(`document.querySelector('#tile-packets .plot').dataset.points >= 8`)
		if width := browser.Eval[int64](p, "document.documentElement.scrollWidth"); width > screen.Width {
			t.Errorf("%s: the page is %d wide", screen.Name, width)
		}
		if troubles, hosts := p.Troubles(), p.Hosts(); len(troubles) > 0 || len(hosts) != 1 || hosts[0] != address {
			t.Errorf("%s: the console says %q; asked were %q", screen.Name, troubles, hosts)
		}
		p.Shot(filepath.Join("..", "..", "bin", "page"), "real-"+screen.Name, false)
		p.Shot(filepath.Join("..", "..", "bin", "page"), "real-whole-"+screen.Name, true)
	}

	p := pages[2]
	drained := net.JoinHostPort(b.Backends[0].Addr(4).String(), "8080")
	button := fmt.Sprintf(`[aria-label="drain %s of web-nat4"]`, drained)
	p.Await("document.querySelector('" + button + "')")
	p.Do(chromedp.Click(button, chromedp.ByQuery), chromedp.WaitVisible("#token", chromedp.ByQuery),
		chromedp.SendKeys("#token", "wrong-"+pageToken+kb.Enter, chromedp.ByQuery))
	p.Await("document.querySelector('.failure').textContent.includes('not the token')")
	awaitStates(t, d, "up down up")
	p.Do(chromedp.SendKeys("#token", pageToken+kb.Enter, chromedp.ByQuery))
	awaitStates(t, d, "drain down up")
	p.Await("document.getElementById('sentence').textContent === 'backends 1/12 down (1 drain)'")
	wantSpread(t, b.Ask(ctxOf(t), nat4.URL(), 4), [3]int{0, 0, 4})

	must(t, d.Process.Signal(syscall.SIGSTOP))
	p.Await("document.getElementById('sentence').textContent.startsWith('No data since') && document.body.className === 'stale'")
	must(t, d.Process.Signal(syscall.SIGCONT))
	p.Await("document.getElementById('log').textContent.includes('answers again') && document.body.className === ''")

	must(t, d.Stop())
	p.Await("document.getElementById('sentence').textContent.startsWith('No data since')")
	must(t, d.Restart(ctxOf(t)))
	p.Await("document.getElementById('log').textContent.includes('has restarted') && document.body.className === ''")
	_, err := d.API.Override(ctxOf(t), api.OverrideRequest{Service: "web-nat4", Backend: drained, State: api.OverrideEnable})
	must(t, err)
	p.Await("document.getElementById('sentence').textContent === 'backends 1/12 down'")
}
