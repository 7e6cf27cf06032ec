package api_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"sluice/engine/api"
	"sluice/engine/api/apitest"
	"sluice/tools/browser"
)

// shots is the directory of screenshots; git ignores it.
var shots = filepath.Join("..", "..", "bin", "page")

// hostile is the worst content of a name or an error.
const hostile = `<img src=x onerror="window.owned=1"><script>window.owned=1</script>'"&`

// farm is a daemon with counters that grow with time.
type farm struct {
	api.Control // none but what follows
	mu          sync.Mutex
	began       time.Time // when its counters started
	ran         float64   // seconds that it had run before
	services    []api.Service
	told        []string
	attention   []string
}

func newFarm(services int) *farm {
	f := &farm{began: time.Now(), ran: 3600}
	for i := range services {
		s := api.Service{Name: fmt.Sprintf("service-%03d", i), Address: fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250), Port: api.SinglePort(443),
			Protocol: "tcp", Mode: "nat", Scheduler: "wlc"}
		for j := range 2 + i%3 {
			s.Backends = append(s.Backends, api.Backend{Address: fmt.Sprintf("10.%d.%d.%d", i/250, 1+i%250, j+1), Port: api.SinglePort(8443), Weight: 1,
				ConfiguredWeight: 1, Mode: "nat", State: api.StateUp, StateSinceS: 7200, Reason: "2 checks in a row succeeded", Active: 120, Inactive: 14})
		}
		f.services = append(f.services, s)
	}
	dying := &f.services[1].Backends[0]
	dying.State, dying.StateSinceS, dying.Reason = api.StateDown, 134, "3 checks in a row failed: "+hostile
	f.services[2].Name = hostile
	f.services[3].Backends[1].State, f.services[3].Backends[1].Weight = api.StateDrain, 0
	f.services[3].Limited = map[string]uint64{"connections": 4}
	f.services[3].Pressure = &api.Pressure{PerSecond: 6012, FoundFull: 72000, Displacing: 72000, Sources: []api.Source{{Prefix: "203.0.113.0/24", Share: 0.45}}}
	return f
}

func (f *farm) List(context.Context) ([]api.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	elapsed := time.Since(f.began).Seconds()
	all := make([]api.Service, len(f.services))
	for i, s := range f.services {
		s.Backends = append([]api.Backend(nil), s.Backends...)
		for j := range s.Backends {
			if b := &s.Backends[j]; b.State == api.StateUp {
				b.Connections, b.Packets, b.PacketsOut = uint64(elapsed*50), uint64(elapsed*4000), uint64(elapsed*4000)
				b.Bytes, b.BytesOut = uint64(elapsed*4e5), uint64(elapsed*5e6)
				s.Connections, s.Packets, s.PacketsOut = s.Connections+b.Connections, s.Packets+b.Packets, s.PacketsOut+b.PacketsOut
				s.Bytes, s.BytesOut = s.Bytes+b.Bytes, s.BytesOut+b.BytesOut
			}
		}
		all[i] = s
	}
	return all, nil
}

func (f *farm) Backend(_ context.Context, service, backend string) (api.Backend, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return apitest.BackendOf(f.services, service, backend)
}

func (f *farm) Stats(context.Context) (api.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	elapsed := time.Since(f.began).Seconds()
	uptime := f.ran + elapsed
	return api.Stats{Version: "0.1.0", UptimeS: uptime, Rx: uint64(elapsed * 1.2e6), Forwarded: uint64(elapsed * 1.19e6),
		Drops: map[string]uint64{"no_backend": uint64(elapsed * 300), "ttl_expired": 12, "short": 0},
		Workers: []api.WorkerStats{{Worker: 0, CPU: 2, BusyShare: 0.6 * elapsed / uptime, BusyS: 0.6 * elapsed, RunS: uptime, PacketsPerBatch: 12},
			{Worker: 1, CPU: 3, BusyShare: 0.95 * elapsed / uptime, BusyS: 0.95 * elapsed, RunS: uptime, PacketsPerBatch: 31}},
		Ports:  []api.PortStats{{Name: "eth0", IO: api.IOZeroCopy, Up: true, MTU: 1500}, {Name: "eth1", IO: api.IOCopy, Up: true, MTU: 1500}},
		Tables: api.TableStats{ConnectionsV4: 123456, Capacity: 1 << 20}}, nil
}

func (f *farm) Status(context.Context) (api.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return api.Status{Attention: append([]string{"service " + hostile + ": " + hostile}, f.attention...)}, nil
}

func (f *farm) Override(_ context.Context, r api.OverrideRequest) (api.Backend, error) {
	return f.set(r.State+" "+r.Service+" "+r.Backend, r.Service, r.Backend, map[string]int{api.OverrideEnable: 1}[r.State])
}

func (f *farm) SetWeight(_ context.Context, service, backend string, weight int) (api.Backend, error) {
	return f.set(fmt.Sprint("weight ", service, " ", backend, " ", weight), service, backend, weight)
}

func (f *farm) set(told, service, backend string, weight int) (api.Backend, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, told)
	for i := range f.services {
		for j := range f.services[i].Backends {
			if b := &f.services[i].Backends[j]; f.services[i].Name == service && b.Endpoint() == backend {
				b.Weight = weight
				b.State = map[bool]string{true: api.StateDrain, false: api.StateUp}[weight == 0]
				return *b, nil
			}
		}
	}
	return api.Backend{}, fmt.Errorf("no %s in %s", backend, service)
}

// requests returns what it was asked to do since the last call.
func (f *farm) requests() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	told := strings.Join(f.told, "; ")
	f.told = nil
	return told
}

// serveAt serves the farm on an address until stop is called or the test ends.
func serveAt(t *testing.T, address string, control api.Control, access api.Access) (stop func()) {
	server := api.NewServer(control, slog.New(slog.DiscardHandler))
	server.OpenNetwork(address, access)
	var once sync.Once
	stop = func() {
		once.Do(func() {
			deadline, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := server.Shutdown(deadline); err != nil {
				t.Error("shutdown:", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// wantSound checks what must always hold.
func wantSound(t *testing.T, p *browser.Page, address string) {
	t.Helper()
	if width, window := browser.Eval[int](p, "document.documentElement.scrollWidth"), browser.Eval[int](p, "innerWidth"); width > window {
		t.Errorf("the page is %d wide, its window %d", width, window)
	}
	if troubles := p.Troubles(); len(troubles) > 0 {
		t.Errorf("the console complains: %q", troubles)
	}
	if hosts := p.Hosts(); len(hosts) != 1 || hosts[0] != address {
		t.Errorf("the page asks %q, want %s only", hosts, address)
	}
	if browser.Eval[bool](p, "'owned' in window || document.querySelector('main img, main script') !== null") {
		t.Error("what the daemon says became markup")
	}
	if unreadable := browser.Eval[[]string](p, browser.Unreadable); len(unreadable) > 0 {
		t.Errorf("there is too little contrast in %q", unreadable)
	}
	if overlaps := browser.Eval[[]string](p, browser.Overlaps); len(overlaps) > 0 {
		t.Errorf("texts overlap: %q", overlaps)
	}
	if nameless := browser.Eval[[]string](p, browser.Nameless); len(nameless) > 0 {
		t.Errorf("there are controls without a name: %q", nameless)
	}
}

// moving is true when all charts have a line and a number other than 0.
const moving = `[...document.querySelectorAll('.tile .value')].every(v => /^[1-9]/.test(v.textContent))`

// newBrowser starts a browser. It skips the test in short mode: a browser takes seconds.
func newBrowser(t *testing.T) *browser.Browser {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser")
	}
	return browser.New(t)
}

func TestPageOnEveryScreen(t *testing.T) {
	address, few, many := freeAddress(t), newFarm(14), newFarm(200)
	manyAddress := freeAddress(t)
	serveAt(t, address, few, api.Access{OpenReads: true})
	serveAt(t, manyAddress, many, api.Access{OpenReads: true})
	b := newBrowser(t)
	for _, screen := range browser.Screens {
		p := b.Open("http://"+address+"/", screen)
		p.Await(moving)
		before := browser.Eval[string](p, "document.querySelector('.drops, #drops .n').textContent")
		p.Await(fmt.Sprintf("document.querySelector('#drops .n').textContent !== %q", before))
		if text := browser.Eval[string](p, "document.getElementById('sentence').textContent"); text != "backends 1/41 down (1 drain)" {
			t.Errorf("the page sums up: %s", text)
		}
		const told = "6012 new connections/s find no free entry: 72000 displaced others; from 203.0.113.0/24 (45%); refused since the start: 4 beyond limits (connections 4)"
		if !browser.Eval[bool](p, fmt.Sprintf("[...document.querySelectorAll('.refused')].some(n => n.textContent === %q && n.offsetHeight > 0)", told)) {
			t.Error("the page does not say what a full table does to a service")
		}
		if first := browser.Eval[string](p, "document.querySelector('.service .name').textContent"); first != "service-001" {
			t.Errorf("first stands %s, not what is broken", first)
		}
		if !browser.Eval[bool](p, fmt.Sprintf("[...document.querySelectorAll('.name')].some(n => n.textContent === %q)", hostile)) {
			t.Error("a name is not shown as it is")
		}
		wantSound(t, p, address)
		p.Shot(shots, screen.Name, false)

		p = b.Open("http://"+manyAddress+"/", screen)
		p.Await("document.querySelectorAll('.service').length === 200")
		p.Await(moving)
		if n := browser.Eval[int](p, "document.querySelectorAll('tbody tr').length"); n > 20 {
			t.Errorf("of 200 services %d backends are unfolded at first", n)
		}
		wantSound(t, p, manyAddress)
		p.Shot(shots, screen.Name+"-200", false)
		p.Do(chromedp.SendKeys("#filter", "10.0.151.", chromedp.ByQuery))
		p.Await("document.querySelectorAll('.service').length === 1 && document.querySelector('.name').textContent === 'service-150'")
		wantSound(t, p, manyAddress)
		p.Do(chromedp.SendKeys("#filter", kb.Escape, chromedp.ByQuery), chromedp.Click("#only", chromedp.ByQuery))
		p.Await("document.querySelectorAll('.service').length === 2")
	}
}

func TestPageChangesTheDaemon(t *testing.T) {
	address, f := freeAddress(t), newFarm(4)
	serveAt(t, address, f, api.Access{OpenReads: true, TokenFile: tokenFile(t, token, 0o600)})
	p := newBrowser(t).Open("http://"+address+"/", browser.Screens[2])
	button := `document.querySelector('[aria-label="drain 10.0.1.1:8443 of service-000"]')`
	p.Await(button)
	open := func(label string) {
		t.Helper()
		p.Await(`document.querySelector('[aria-label="` + label + `"]')`)
		p.Do(chromedp.Click(`[aria-label="`+label+`"]`, chromedp.ByQuery), chromedp.WaitVisible("dialog[open]", chromedp.ByQuery))
	}
	answered := func(says string) {
		t.Helper()
		p.Await(fmt.Sprintf("document.querySelector('.failure').textContent.includes(%q)", says))
	}
	// Nothing happens without the token, with a wrong one, or without a confirmation.
	open("drain 10.0.1.1:8443 of service-000")
	p.Do(chromedp.Click("dialog .primary", chromedp.ByQuery))
	answered("needs the token")
	p.Do(chromedp.SendKeys("#token", "0123456789abcdef-wrong", chromedp.ByQuery), chromedp.SendKeys("#token", kb.Enter, chromedp.ByQuery))
	answered("not the token")
	wantSoundDialog(t, p)
	p.Do(chromedp.SendKeys("#token", kb.Escape, chromedp.ByQuery))
	p.Await("!document.querySelector('dialog[open]')")
	if told := f.requests(); told != "" {
		t.Fatal("the daemon was asked", told)
	}
	p.Troubles() // the browser logs refused requests
	open("drain 10.0.1.1:8443 of service-000")
	p.Do(chromedp.SendKeys("#token", token+kb.Enter, chromedp.ByQuery))
	p.Await("!document.querySelector('dialog[open]')")
	p.Await(`document.querySelector('[aria-label="enable 10.0.1.1:8443 of service-000"]')`)
	open("drain 10.0.1.2:8443 of service-000") // the token is known now
	if text := browser.Eval[string](p, "document.querySelector('dialog').innerText"); !strings.Contains(text, "last backend of service-000") || strings.Contains(text, "Token") {
		t.Error("the dialog says", text)
	}
	p.Do(chromedp.Click("//dialog//button[text()='Cancel']", chromedp.BySearch))
	open("enable 10.0.1.1:8443 of service-000")
	p.Do(chromedp.KeyEvent(kb.Enter)) // the button has the focus
	p.Await(button)
	open("weight of 10.0.1.1:8443 of service-000")
	p.Do(chromedp.SendKeys("#weight", kb.Backspace+"7"+kb.Enter, chromedp.ByQuery))
	p.Await(`/7\s+\(file 1\)/.test(document.body.innerText)`)
	want := "drain service-000 10.0.1.1:8443; enable service-000 10.0.1.1:8443; weight service-000 10.0.1.1:8443 7"
	if told := f.requests(); told != want {
		t.Errorf("the daemon was asked %s, want %s", told, want)
	}
	if kept := browser.Eval[string](p, "sessionStorage['sluice token'] + localStorage.length + document.cookie"); kept != token+"0" {
		t.Error("the token is kept as", kept)
	}
	p.Do(chromedp.Click("#give-token", chromedp.ByQuery))
	if browser.Eval[int](p, "sessionStorage.length") != 0 {
		t.Error("the token is not forgotten")
	}
	wantSound(t, p, address)
}

// wantSoundDialog also takes a screenshot of the dialog.
func wantSoundDialog(t *testing.T, p *browser.Page) {
	t.Helper()
	if unreadable := browser.Eval[[]string](p, browser.Unreadable); len(unreadable) > 0 {
		t.Errorf("there is too little contrast in %q", unreadable)
	}
	p.Shot(shots, "dialog", false)
}

func TestPageAsksForTheTokenWhereReadsNeedIt(t *testing.T) {
	address := freeAddress(t)
	serveAt(t, address, newFarm(4), api.Access{TokenFile: tokenFile(t, token, 0o600)})
	p := newBrowser(t).Open("http://"+address+"/", browser.Screens[0])
	p.Await("document.getElementById('sentence').textContent.includes('requires its token')")
	p.Do(chromedp.Click("#give-token", chromedp.ByQuery), chromedp.SendKeys("#token", token+kb.Enter, chromedp.ByQuery))
	p.Await("document.querySelectorAll('.service').length === 4")
}

func TestPageOutlivesTheDaemon(t *testing.T) {
	address, f := freeAddress(t), newFarm(4)
	stop := serveAt(t, address, f, api.Access{OpenReads: true})
	p := newBrowser(t).Open("http://"+address+"/", browser.Screens[2])
	p.Await(moving)
	stop()
	const age = `/^No data since \d\d:\d\d:\d\d, for (\d+)s$/.exec(document.getElementById('sentence').textContent)?.[1]`
	p.Await("document.body.className === 'stale' && " + age)
	p.Await(fmt.Sprintf("%s > %s", age, browser.Eval[string](p, age))) // it grows
	p.Shot(shots, "lost", false)
	f.mu.Lock()
	f.began, f.ran = time.Now(), 0 // counters start again
	f.mu.Unlock()
	serveAt(t, address, f, api.Access{OpenReads: true})
	p.Await("document.getElementById('log').textContent.includes('The daemon has restarted') && document.body.className === ''")
	p.Await(moving)
}

func TestPageByKeyboard(t *testing.T) {
	address := freeAddress(t)
	serveAt(t, address, newFarm(14), api.Access{OpenReads: true})
	p := newBrowser(t).Open("http://"+address+"/", browser.Screens[2])
	p.Await("document.querySelectorAll('.service').length === 14")
	// Like a keyboard: chromedp's KeyEvent types the character even if the page has handled the
	// key.
	p.Do(input.DispatchKeyEvent(input.KeyDown).WithKey("/").WithText("/"), input.DispatchKeyEvent(input.KeyUp).WithKey("/"))
	p.Await("document.activeElement.id === 'filter'")
	p.Do(chromedp.KeyEvent("service-005"))
	p.Await("document.querySelectorAll('.service').length === 1")
	for range 4 { // past the toggle and two buttons
		p.Do(chromedp.KeyEvent(kb.Tab))
	}
	p.Await("document.activeElement.className === 'head' && document.activeElement.getAttribute('aria-expanded') === 'false'")
	p.Do(chromedp.KeyEvent(kb.Enter))
	p.Await("document.activeElement.getAttribute('aria-expanded') === 'true' && document.querySelector('tbody tr').offsetHeight > 0")
	if outline := browser.Eval[string](p, "getComputedStyle(document.activeElement).outlineStyle"); outline == "none" {
		t.Error("the focus cannot be seen")
	}
}
