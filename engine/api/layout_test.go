package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"sluice/engine/api"
	"sluice/tools/browser"
)

// sickFarm is a farm with twelve backends in each service, all of them down.
type sickFarm struct {
	*farm
	status api.Status
}

func newSickFarm(services int) *sickFarm {
	f := &sickFarm{farm: &farm{began: newFarm(4).began, ran: 3600}}
	for i := range services {
		s := api.Service{Name: fmt.Sprintf("shop-frontend-%03d", i), Address: fmt.Sprintf("198.51.%d.%d", 100+i/250, 1+i%250), Port: api.SinglePort(443),
			Protocol: "tcp", Mode: "fullnat", Scheduler: "wlc", PersistenceS: 300}
		if i%3 == 2 {
			s.Address, s.Name = fmt.Sprintf("2001:db8:1234:5678:9abc:def0:1234:%x", 0x5678+i), fmt.Sprintf("a-service-with-a-rather-long-name-for-a-column-%03d", i)
		}
		for j := range 12 {
			b := api.Backend{Address: fmt.Sprintf("10.%d.%d.%d", i/250, 1+i%250, j+1), Port: api.SinglePort(8443), Weight: 1, ConfiguredWeight: 1,
				Mode: "nat", State: api.StateDown, StateSinceS: 93784 * float64(1+j), Active: 123456, Inactive: 654321,
				Protected: i%2 == 0 && j >= 6, LastError: "no answer within 900ms",
				Reason: fmt.Sprintf("https https://10.%d.%d.%d:8443/healthz: no answer within 900ms", i/250, 1+i%250, j+1)}
			switch {
			case b.Protected:
				b.Reason += "; stays in use: min_healthy keeps 50 % of the backends in use"
			case j == 1:
				b.Weight, b.ConfiguredWeight = 65535, 12345
			case j == 2:
				b.Address, b.Reason = "2001:db8:1234:5678:9abc:def0:1234:5678", "no neighbour since 2026-11-30 14:02:11: 2001:db8:1234:5678:9abc:def0:1234:5678 does not answer"
			}
			s.Backends = append(s.Backends, b)
		}
		f.services = append(f.services, s)
		f.status.Attention = append(f.status.Attention, fmt.Sprintf("service %s: 12/12 backends are down, 6 of them in use, "+
			"because min_healthy keeps 50 %% of the backends in use: repair some", s.Name))
	}
	f.status.Attention = append([]string{"worker 1 (CPU 3) has not answered since 14:02:11: packets of its queues are lost, " +
		"and it works by old tables; the log of the kernel may say why; a restart ends it"}, f.status.Attention[:min(4, services)]...)
	return f
}

func (f *sickFarm) Status(context.Context) (api.Status, error) { return f.status, nil }

func (f *sickFarm) Stats(ctx context.Context) (api.Stats, error) {
	s, err := f.farm.Stats(ctx)
	s.Workers[1].StuckS = 95
	s.Ports[1].Up = false
	return s, err
}

// wideAndNarrow are the screens of a desk and of a phone.
var wideAndNarrow = []browser.Screen{
	{Name: "1440-light", Width: 1440, Height: 900}, {Name: "1440-dark", Width: 1440, Height: 900, Dark: true},
	{Name: "390-light", Width: 390, Height: 844}, {Name: "390-dark", Width: 390, Height: 844, Dark: true},
}

// TestPageOverlapsNowhere: with everything down, on each screen, no text covers another, leaves its
// box or makes the page wider than its window.
func TestPageOverlapsNowhere(t *testing.T) {
	chromium := newBrowser(t)
	for _, services := range []int{3, 200} {
		address := freeAddress(t)
		serveAt(t, address, newSickFarm(services), api.Access{OpenReads: true})
		for _, screen := range wideAndNarrow {
			name := fmt.Sprintf("down-%d-%s", services, screen.Name)
			p := chromium.Open("http://"+address+"/", screen)
			p.Await(fmt.Sprintf("document.querySelectorAll('.service').length === %d", services))
			p.Await("document.querySelector('#tile-packets .plot').dataset.points >= 2")
			wantSound(t, p, address)
			for _, overlap := range browser.Eval[[]string](p, browser.Overlaps) {
				t.Errorf("%s: %s", name, overlap)
			}
			p.Shot(shots, name, false)
			if services == 3 {
				p.Shot(shots, name+"-whole", true)
			}
		}
	}
}

// TestPageOverlapsAtNoWidth: neither between the screens that pages are tested on.
func TestPageOverlapsAtNoWidth(t *testing.T) {
	chromium, address := newBrowser(t), freeAddress(t)
	serveAt(t, address, newSickFarm(3), api.Access{OpenReads: true})
	p := chromium.Open("http://"+address+"/", wideAndNarrow[0])
	p.Await("document.querySelector('#tile-packets .plot').dataset.points >= 2")
	for _, width := range []int64{320, 600, 940, 941, 1100, 1279, 1280, 2560} {
		p.Do(chromedp.EmulateViewport(width, 900))
		p.Await(fmt.Sprintf("innerWidth === %d", width))
		for _, overlap := range browser.Eval[[]string](p, browser.Overlaps) {
			t.Errorf("%d: %s", width, overlap)
		}
		if got := browser.Eval[int64](p, "document.documentElement.scrollWidth"); got > width {
			t.Errorf("the page is %d wide, its window %d", got, width)
		}
	}
}

// TestPageKeepsRowsUnderThePointer: while the pointer is over a row, that row stays where it is,
// whatever comes, goes or fails above it; when the pointer leaves, the order follows.
func TestPageKeepsRowsUnderThePointer(t *testing.T) {
	chromium, address, f := newBrowser(t), freeAddress(t), newFarm(14)
	serveAt(t, address, f, api.Access{OpenReads: true})
	p := chromium.Open("http://"+address+"/", browser.Screen{Name: "desk", Width: 1440, Height: 1200})
	p.Await(moving)
	const aimed = "service-006"
	head := fmt.Sprintf("[...document.querySelectorAll('.head')].find(h => h.querySelector('.name').textContent === %q)", aimed)
	top := func() float64 { return browser.Eval[float64](p, head+".getBoundingClientRect().top") }
	center := browser.Eval[[]float64](p, "(() => { const r = "+head+".getBoundingClientRect(); return [r.left + 300, r.top + r.height / 2]; })()")
	x, y, before := center[0], center[1], top()
	p.Do(chromedp.MouseEvent(input.MouseMoved, x-5, y), chromedp.MouseEvent(input.MouseMoved, x, y))

	want := func(when, sentence string, change func()) {
		t.Helper()
		f.mu.Lock()
		change()
		f.mu.Unlock()
		p.Await(fmt.Sprintf("document.getElementById('sentence').textContent.includes(%q)", sentence))
		under := browser.Eval[string](p, fmt.Sprintf("document.elementFromPoint(%f, %f)?.closest('.service')?.querySelector('.name').textContent ?? ''", x, y))
		if now := top(); under != aimed || now < before-1 || now > before+1 {
			t.Errorf("%s: under the pointer is %q; %s was at %v and is at %v", when, under, aimed, before, now)
		}
	}
	down := func(service int) {
		for j := range f.services[service].Backends {
			b := &f.services[service].Backends[j]
			b.State, b.Reason = api.StateDown, strings.Repeat("a long reason, ", 20)
		}
	}
	want("services fail", "backends 7/41 down", func() { down(8); down(9) })
	want("it fails itself", "backends 9/41 down", func() { down(6) })
	want("alarms come", "backends 11/41 down", func() { down(12); f.attention = []string{"one", "two", "three"} })
	want("a service goes", "backends 11/38 down", func() { f.services = append(f.services[:4:4], f.services[5:]...) })
	want("services work again", "backends 1/38 down", func() {
		f.attention = nil
		for i := range f.services {
			for j := range f.services[i].Backends {
				if b := &f.services[i].Backends[j]; b.State == api.StateDown && i > 1 {
					b.State, b.Reason = api.StateUp, ""
				}
			}
		}
	})
	want("one fails that is before it", "backends 3/38 down", func() { down(0) })
	first := "document.querySelector('.service .name').textContent"
	if name := browser.Eval[string](p, first); name != "service-001" {
		t.Errorf("first is %s although the pointer is there", name)
	}
	p.Do(chromedp.MouseEvent(input.MouseMoved, 10, 10))
	p.Await(first + " === 'service-000' && document.getElementById('spacer').offsetHeight === 0 && document.querySelector('.removed') === null")
}
