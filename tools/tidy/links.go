package tidy

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	oddMark = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// links requires every relative link of a page to lead to a file of this repository and, after a #,
// to a heading in it. Every page must be reachable from README.md, directly or through other pages.
func links(repo *Repo) (broken []string) {
	reached := map[string]bool{"README.md": true}
	pages := []string{"README.md"}
	for len(pages) > 0 {
		page := pages[0]
		pages = pages[1:]
		text, err := fs.ReadFile(repo.FS, page)
		if err != nil {
			return append(broken, err.Error())
		}
		for _, found := range link.FindAllSubmatch(fenced.ReplaceAll(text, nil), -1) {
			if target := string(found[1]); !strings.Contains(target, "://") {
				file, wrong := follow(repo, page, target)
				if wrong != "" {
					broken = append(broken, fmt.Sprintf("%s: (%s) %s", page, target, wrong))
				} else if path.Ext(file) == ".md" && !reached[file] {
					reached[file] = true
					pages = append(pages, file)
				}
			}
		}
	}
	_ = fs.WalkDir(repo.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			broken = append(broken, err.Error())
		case entry.IsDir() && (slices.Contains(ignored, name) || entry.Name() == "testdata"):
			return fs.SkipDir
		case path.Ext(name) == ".md" && !reached[name]:
			broken = append(broken, name+" is not linked from any page: add it to the table in README.md")
		}
		return nil
	})
	return broken
}

// follow returns the file that a link of a page leads to, and what is wrong with the link.
func follow(repo *Repo, page, target string) (file, wrong string) {
	name, anchor, _ := strings.Cut(target, "#")
	file = page
	if name != "" {
		file = path.Join(path.Dir(page), name)
	}
	if _, err := fs.Stat(repo.FS, file); err != nil {
		return file, "does not exist"
	}
	if anchor == "" {
		return file, ""
	}
	text, err := fs.ReadFile(repo.FS, file)
	if err != nil {
		return file, err.Error()
	}
	for _, title := range heading.FindAllSubmatch(text, -1) {
		if anchorOf(string(title[1])) == anchor {
			return file, ""
		}
	}
	return file, "names a heading that the page does not have"
}

// anchorOf returns the anchor that forges give a heading.
func anchorOf(title string) string {
	return strings.ReplaceAll(strings.ToLower(oddMark.ReplaceAllString(strings.TrimSpace(title), "")), " ", "-")
}
