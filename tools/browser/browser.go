// Package browser opens pages in a headless Chromium, driven by chromedp, for tests.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"sluice/tools/e2e/testbed"
)

// waitLimit bounds every wait for something on a page.
const waitLimit = 30 * time.Second

// Screens lists the screens that pages are tested on.
var Screens = []Screen{
	{"phone-light", 375, 812, false},
	{"phone-dark", 375, 812, true},
	{"desktop-light", 1280, 800, false},
	{"desktop-dark", 1280, 800, true},
}

// Screen is a size and a preference.
type Screen struct {
	Name          string
	Width, Height int64
	Dark          bool
}

// Browser is one Chromium; it ends with the test.
type Browser struct {
	t   *testing.T
	ctx context.Context
}

// New starts Chromium. Without Chromium the test fails as root, which could have installed it, and
// is skipped otherwise.
func New(t *testing.T) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		if os.Geteuid() == 0 {
			t.Fatal("chromium is missing: apt-get install chromium")
		}
		t.Skip("needs chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.UserDataDir(profile(t)),
		chromedp.Flag("disable-dev-shm-usage", true),
		// Names are not resolved, so a page cannot load anything from other hosts.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.*"),
		chromedp.WSURLReadTimeout(waitLimit),
	)
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	// chromedp reports events that are newer than itself as errors.
	ctx, end := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	started, over := make(chan error, 1), make(chan struct{})
	t.Cleanup(func() { end(); endAllocator(); close(over) })
	go func() {
		// The kernel kills Chromium when the thread that started it ends (PR_SET_PDEATHSIG), as a
		// thread does that was in another network namespace. This one is kept.
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		started <- chromedp.Run(ctx)
		<-over
	}()
	if err := <-started; err != nil {
		t.Fatal("chromium does not start:", err)
	}
	return &Browser{t, ctx}
}

// profile returns a directory for Chromium's files. Its processes write there until the last of
// them has ended, a moment after the main process.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := testbed.TempDir("browser-" + strings.ReplaceAll(t.Name(), "/", "-"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
		defer cancel()
		if err := testbed.Poll(ctx, func() error { return os.RemoveAll(dir) }); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Page is one tab.
type Page struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	troubles []string // errors on the console, exceptions
	hosts    map[string]bool
}

// Open opens a tab of a size with an address.
func (b *Browser) Open(address string, screen Screen) *Page {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.t.Cleanup(end)
	p := &Page{t: b.t, ctx: ctx, hosts: map[string]bool{}}
	// The first Run opens the tab, which lives as long as its context, so this must not be the
	// context of a single action.
	if err := chromedp.Run(ctx); err != nil {
		b.t.Fatal("a new tab:", err)
	}
	chromedp.ListenTarget(ctx, p.record)
	preference := "light"
	if screen.Dark {
		preference = "dark"
	}
	p.Do(network.Enable(), log.Enable(),
		chromedp.EmulateViewport(screen.Width, screen.Height),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: preference}}),
		chromedp.Navigate(address))
	return p
}

// record records errors of the page.
func (p *Page) record(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" {
			p.hosts[u.Host] = true
		}
	case *runtime.EventExceptionThrown:
		p.troubles = append(p.troubles, e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			p.troubles = append(p.troubles, fmt.Sprint("console: ", e.Args))
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			p.troubles = append(p.troubles, e.Entry.Text+" "+e.Entry.URL)
		}
	}
}

// Troubles returns the errors of the console since the last call.
func (p *Page) Troubles() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.troubles
	p.troubles = nil
	return all
}

// Hosts returns the hosts that the page has sent requests to.
func (p *Page) Hosts() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for host := range p.hosts {
		all = append(all, host)
	}
	return all
}

// Do runs actions.
func (p *Page) Do(actions ...chromedp.Action) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, waitLimit)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		p.t.Fatalf("in the browser: %v", err)
	}
}

// Eval returns the value of an expression.
func Eval[T any](p *Page, expression string) (value T) {
	p.t.Helper()
	p.Do(chromedp.Evaluate(expression, &value))
	return value
}

// Await waits until an expression is true.
func (p *Page) Await(expression string) {
	p.t.Helper()
	for deadline := time.Now().Add(waitLimit); ; time.Sleep(50 * time.Millisecond) {
		if Eval[bool](p, "Boolean("+expression+")") {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s is never true; the page says:\n%s", expression, Eval[string](p, "document.body.innerText"))
		}
	}
}

// Shot writes a screenshot to DIR/NAME.png; whole includes the whole page.
func (p *Page) Shot(dir, name string, whole bool) {
	p.t.Helper()
	var picture []byte
	if whole {
		p.Do(chromedp.FullScreenshot(&picture, 100))
	} else {
		p.Do(chromedp.CaptureScreenshot(&picture))
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".png"), picture, 0o644)
	}
	if err != nil {
		p.t.Error(err)
	}
}
