package page

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(path string) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	for _, pattern := range Paths {
		mux.Handle(pattern, Handler())
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func TestFilesAreServedWithTheirTypeAndPolicy(t *testing.T) {
	for path, want := range map[string]string{
		"/": "text/html", "/page/app.js": "text/javascript", "/page/style.css": "text/css", "/page/icon.svg": "image/svg+xml",
		"/page/lib/uPlot.iife.min.js": "text/javascript", "/page/lib/uPlot-LICENSE.txt": "text/plain",
	} {
		w := get(path)
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), want) || w.Body.Len() == 0 ||
			!strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: status %d, %d bytes, %v", path, w.Code, w.Body.Len(), w.Header())
		}
	}
	for _, path := range []string{"/page/", "/page/page.go", "/page/../page.go", "/page/lib", "/page/lib/", "/page/nothing.js", "/other"} {
		if w := get(path); w.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

// TestNothingIsLoadedFromElsewhere checks that the page depends on no other server, because an
// appliance may have no access to the internet, and that no markup is made from the daemon's texts.
func TestNothingIsLoadedFromElsewhere(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(src|href|url|import|from|fetch)\s*[=(]?\s*["'(]\s*(https?:)?//`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`)
	inline := regexp.MustCompile(`(?i)<script>|<style|\son[a-z]+=|\sstyle=|javascript:`)
	err := fs.WalkDir(files, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		if found := elsewhere.Find(data); found != nil {
			t.Errorf("%s loads from elsewhere: %s", path, found)
		}
		if found := markup.Find(data); found != nil {
			t.Errorf("%s makes markup or code of text: %s", path, found)
		}
		if found := inline.Find(data); found != nil && strings.HasSuffix(path, ".html") {
			t.Errorf("%s has something inline that the policy forbids: %s", path, found)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
